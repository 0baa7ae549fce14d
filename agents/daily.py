"""Daily: the summary of each context's day, as an update of its own.

In: nothing but the time. Each minute it looks which contexts' time of day has come.
"""

from hookstream.app.main import app


@app.crontab("* * * * *")
async def daily() -> None:
    """Tells contexts of their day: one commit a context and day."""
    await app.worker.dailies.tell()
