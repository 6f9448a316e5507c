# For CPUs:
#   docker build --tag tinyllama --build-arg TORCH_INDEX=https://download.pytorch.org/whl/cpu .
# For GPUs, with an image and a PyTorch index of your driver's CUDA, see https://pytorch.org/get-started/locally/:
#   docker build --tag tinyllama --build-arg BASE=nvidia/cuda:12.8.1-devel-ubuntu24.04 --build-arg TORCH_INDEX=INDEX .
# A family in the current folder; for GPUs, add --gpus all after --rm:
#   docker run --rm --user "$(id -u):$(id -g)" --volume "$PWD:/data" tinyllama reproduce nano
ARG BASE=python:3.11-slim-bookworm
FROM ${BASE}

# torch.compile needs the compiler and Python's headers.
ARG PACKAGES="g++ python3 python3-dev python3-venv"
# hadolint ignore=DL3008
RUN apt-get update \
    && DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends ${PACKAGES} \
    && rm -rf /var/lib/apt/lists/*

ENV VIRTUAL_ENV=/opt/tinyllama
ENV PATH=${VIRTUAL_ENV}/bin:${PATH}
RUN python3 -m venv ${VIRTUAL_ENV}

WORKDIR /opt/source
COPY constraints.txt pyproject.toml README.md LICENSE ./
# torch by itself: the longest part, which then stays in its layer while the source changes.
ARG TORCH_INDEX=""
RUN pip install --no-cache-dir --constraint constraints.txt ${TORCH_INDEX:+--extra-index-url ${TORCH_INDEX}} torch \
    && if [ -n "${TORCH_INDEX}" ]; then python -c "import torch; assert '+' in torch.__version__, torch.__version__"; fi
COPY src src
ARG EXTRAS=eval,fast,report
RUN pip install --no-cache-dir --constraint constraints.txt ".[${EXTRAS}]"

# Any user id works: caches are in a folder that everybody may write.
ENV HOME=/home/tinyllama
RUN mkdir -p ${HOME} /data && chmod 1777 ${HOME} /data
WORKDIR /data
USER 1000:1000
ENTRYPOINT ["tinyllama"]
CMD ["--help"]
