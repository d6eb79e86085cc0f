# One image for capture, apply, snapshot and the rest of the command line.
FROM python:3.11-slim AS build
RUN apt-get update && apt-get install -y --no-install-recommends gcc libc6-dev && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY constraints.txt .
RUN python -m venv /opt/cdc && /opt/cdc/bin/pip install --no-cache-dir -c constraints.txt setuptools wheel Cython
COPY pyproject.toml setup.py README.md ./
COPY cdc cdc
COPY snapshot snapshot
COPY sinks sinks
RUN /opt/cdc/bin/pip install --no-cache-dir --no-build-isolation -c constraints.txt .

FROM python:3.11-slim
RUN useradd --system --uid 10001 --no-create-home cdc && install -d -o cdc /reports
WORKDIR /etc/cdc
COPY --from=build /opt/cdc /opt/cdc
ENV PATH=/opt/cdc/bin:$PATH PYTHONUNBUFFERED=1
USER cdc
ENTRYPOINT ["cdc"]
