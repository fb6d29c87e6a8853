# The export stage, with torch: checkpoints to bundles. PyTorch's index of CPU wheels keeps it small:
#   docker build -f docker/export.Dockerfile -t samrefine:export --build-arg PIP_EXTRA_INDEX_URL=URL .
FROM python:3.11-slim-bookworm AS build
ARG PIP_EXTRA_INDEX_URL
COPY . /src
RUN python3 -m venv /opt/samrefine
RUN /opt/samrefine/bin/pip install --no-cache-dir \
    -c /src/constraints.txt -c /src/docker/constraints.txt "/src[export]"

FROM python:3.11-slim-bookworm
RUN useradd --uid 10001 --create-home samrefine && install -d -o samrefine -g samrefine /data
COPY --from=build /opt/samrefine /opt/samrefine
COPY docker/healthcheck.py /opt/samrefine/
ENV PATH=/opt/samrefine/bin:$PATH
# From version 1.29 on, onnxruntime tells its maker which graphs it runs
ENV ORT_DISABLE_TELEMETRY=1
# A number: Kubernetes only then sees that it is not root
USER 10001
WORKDIR /data
HEALTHCHECK --interval=5m --timeout=1m \
    CMD ["python3", "/opt/samrefine/healthcheck.py", "cpu", "samrefine_export.sam.export"]
ENTRYPOINT ["samrefine"]
