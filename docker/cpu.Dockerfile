# CPU image, no torch: docker build -f docker/cpu.Dockerfile -t samrefine .
#                      docker run --rm -v "$PWD:/data" samrefine demo --out /data/samrefine-demo
FROM python:3.11-slim AS build
COPY . /src
RUN pip wheel --no-deps --wheel-dir /wheels /src

FROM python:3.11-slim
COPY --from=build /wheels /wheels
RUN pip install --no-cache-dir "$(ls /wheels/*.whl)[cpu]" && rm -r /wheels
WORKDIR /data
ENTRYPOINT ["samrefine"]
