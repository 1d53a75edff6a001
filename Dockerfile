# The server on a CPU: mesh engine, speech, page, live faces. docs/deploy.md says how to run it.
FROM python:3.11-slim-bookworm AS build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python -m venv /opt/vortex
WORKDIR /src
# Every file by its hash: another one of the same version is refused.
COPY requirements.lock ./
RUN /opt/vortex/bin/pip install --require-hashes -r requirements.lock
COPY pyproject.toml README.md LICENSE ./
COPY vortex vortex
RUN /opt/vortex/bin/pip install --no-deps --no-build-isolation .

FROM python:3.11-slim-bookworm
# MediaPipe and OpenCV need these libraries, even without a screen.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends libegl1 libgles2 libgl1 libglib2.0-0 \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 10001 --create-home vortex \
    && install -d -o vortex -g vortex /data
COPY --from=build /opt/vortex /opt/vortex
ENV PATH=/opt/vortex/bin:$PATH PYTHONUNBUFFERED=1 VORTEX_DATA=/data VORTEX_HOST=0.0.0.0
USER 10001
WORKDIR /home/vortex
VOLUME /data
EXPOSE 8321
HEALTHCHECK --start-period=60s --timeout=5s \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8321/healthz', timeout=4)"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["vortex"]
CMD ["serve"]
