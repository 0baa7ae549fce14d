"""The texts of the Lua scripts: a file each, and pieces that several of them have."""

from importlib.resources import files

__all__ = ["script_sources"]

#: A line that begins so stands for the text of a file in ``lua/parts``.
INCLUDE = "-- include: "


def script_sources() -> dict[str, str]:
    """Each script's text by its name, the file's without its ending.

    Raises:
        FileNotFoundError: one includes a piece that is not there.
    """
    folder = files("hookstream.app.redis").joinpath("lua")

    def line_or_piece(line: str) -> str:
        if not line.startswith(INCLUDE):
            return line
        return folder.joinpath("parts", f"{line[len(INCLUDE) :].strip()}.lua").read_text()

    return {
        path.name.removesuffix(".lua"): "".join(
            map(line_or_piece, path.read_text().splitlines(keepends=True))
        )
        for path in folder.iterdir()
        if path.name.endswith(".lua")
    }
