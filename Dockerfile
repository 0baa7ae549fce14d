# One image for every role; the command says which: `hookstream receive`, `hookstream worker`.
# Name the base by digest for a build that can be repeated (SECURITY.md, "Images"):
#   docker build --build-arg PYTHON_IMAGE=python:3.11-slim@sha256:… .
ARG PYTHON_IMAGE=python:3.11-slim
FROM ${PYTHON_IMAGE} AS build
WORKDIR /src
COPY requirements-run.lock pyproject.toml README.md LICENSE ./
RUN python -m venv /venv && /venv/bin/pip install --no-cache-dir --require-hashes -r requirements-run.lock
COPY hookstream hookstream
COPY app app
COPY agents agents
COPY tables tables
COPY codecs codecs
COPY proto proto
# by the setuptools of the lock: nothing is fetched that has no hash there
RUN /venv/bin/pip install --no-cache-dir --no-index --no-deps --no-build-isolation .

FROM ${PYTHON_IMAGE}
RUN useradd --system --create-home --home-dir /var/lib/hookstream hookstream
COPY --from=build /venv /venv
ENV PATH=/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    HOOKSTREAM_STATE_DIR=/var/lib/hookstream/state \
    HOOKSTREAM_WEB_HOST=0.0.0.0 \
    HOOKSTREAM_ADMIN_HOST=0.0.0.0
USER hookstream
VOLUME /var/lib/hookstream
EXPOSE 6066
HEALTHCHECK --interval=10s --timeout=3s --start-period=20s CMD \
    ["python", "-c", "import os, urllib.request; port = int(os.environ.get('HOOKSTREAM_ADMIN_PORT', 0)) or 6066; urllib.request.urlopen(f'http://127.0.0.1:{port}/health/ready', timeout=2)"]
STOPSIGNAL SIGTERM
CMD ["hookstream", "worker", "-l", "info"]
