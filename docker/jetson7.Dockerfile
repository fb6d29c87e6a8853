# Jetson Orin or Thor with JetPack 7.2 (Python 3.12, CUDA 13.2, TensorRT 10.16), without torch. On the board:
#   docker build -f docker/jetson7.Dockerfile -t samrefine:jetson7 .
FROM ubuntu:24.04 AS build
RUN apt-get update \
    && apt-get install -y --no-install-recommends python3-venv \
    && rm -rf /var/lib/apt/lists/*
COPY . /src
# TensorRT's Python package is NVIDIA's Debian package, outside of the environment
RUN python3 -m venv --system-site-packages /opt/samrefine
# onnxruntime has no GPU wheel for ARM64: it is what runs where no TensorRT engine is built yet
RUN /opt/samrefine/bin/pip install --no-cache-dir \
    -c /src/docker/constraints.txt "/src[cpu]"

FROM ubuntu:24.04
ARG L4T=r39.2
ARG CUDA=13-2
ARG TENSORRT=10.16.2.10-1+cuda13.2
ADD https://repo.download.nvidia.com/jetson/jetson-ota-public.asc /etc/apt/keyrings/jetson.asc
# Each library with its version: apt takes the newest of what is only depended on, and then gives up
RUN chmod 644 /etc/apt/keyrings/jetson.asc \
    && apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates python3 \
    && echo "deb [signed-by=/etc/apt/keyrings/jetson.asc] https://repo.download.nvidia.com/jetson/common $L4T main" \
        > /etc/apt/sources.list.d/jetson.list \
    && apt-get update \
    && apt-get install -y --no-install-recommends "cuda-cudart-$CUDA" \
        "libnvinfer10=$TENSORRT" "libnvinfer-plugin10=$TENSORRT" \
        "libnvonnxparsers10=$TENSORRT" "python3-libnvinfer=$TENSORRT" \
    && rm -rf /var/lib/apt/lists/*
RUN useradd --uid 10001 --create-home samrefine && install -d -o samrefine -g samrefine /data
COPY --from=build /opt/samrefine /opt/samrefine
COPY docker/healthcheck.py /opt/samrefine/
ENV PATH=/opt/samrefine/bin:$PATH
# From version 1.29 on, onnxruntime tells its maker which graphs it runs
ENV ORT_DISABLE_TELEMETRY=1
# What NVIDIA's container runtime mounts into images that are not its own
ENV NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=all
# Found, not imported: the driver's libraries are only there when a container runs
RUN python3 -c "import importlib.util as util; assert util.find_spec('tensorrt'), 'no tensorrt here'"
# A number: Kubernetes only then sees that it is not root
USER 10001
WORKDIR /data
HEALTHCHECK --interval=5m --timeout=1m \
    CMD ["python3", "/opt/samrefine/healthcheck.py", "auto", "tensorrt"]
ENTRYPOINT ["samrefine"]
