# A CPU:         docker build -t lethe-bench .
# NVIDIA's GPUs: docker build --build-arg TORCH=cu130 -t lethe-bench:cuda .
# To run it:     docker run --rm -v "$PWD/runs:/runs" lethe-bench run digits -s er --seeds 5 --out /runs/first
#                and with --gpus all ... --device cuda for the second one.
FROM python:3.11-slim-bookworm AS build
COPY . /source
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheels /source

FROM python:3.11-slim-bookworm
# Of PyTorch's package index: cpu, or a CUDA version. The wheels bring CUDA's libraries with them.
ARG TORCH=cpu
ARG EXTRAS=text,history,tune,tensorboard
COPY --from=build /wheels /wheels
COPY constraints.txt /wheels/
SHELL ["/bin/bash", "-o", "pipefail", "-c"]
RUN pip install --no-cache-dir --index-url "https://download.pytorch.org/whl/$TORCH" \
        "$(grep '^torch==' /wheels/constraints.txt)" \
    && pip install --no-cache-dir -c /wheels/constraints.txt "$(echo /wheels/*.whl)[$EXTRAS]" \
    && useradd --create-home --uid 1000 lethe \
    && install -d -o lethe /cache /runs
ENV LETHE_CACHE=/cache
USER 1000
WORKDIR /runs
ENTRYPOINT ["lethe"]
CMD ["--help"]
