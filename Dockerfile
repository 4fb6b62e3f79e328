# Nexus with every plugin, without a compiler, not as root. An application is mounted or copied to /app:
#   docker run -v "$PWD":/app:ro -p 8000:8000 -e NEXUS_ENABLE_AUTH=true -e NEXUS_JWT_SECRET=... nexus serve app:nexus
# It listens beyond the container, so it starts only with authentication, or with NEXUS_INSECURE=true.
FROM python:3.13-slim AS build
WORKDIR /source
COPY pyproject.toml README.md LICENSE constraints.txt ./
COPY nexus_core nexus_core
COPY plugins plugins
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheels . ./plugins/*
RUN pip install --no-cache-dir --prefix /installed --constraint constraints.txt /wheels/*.whl

FROM python:3.13-slim
COPY --from=build /installed /usr/local
RUN useradd --system --uid 10001 --home-dir /app nexus
USER 10001
WORKDIR /app
ENV NEXUS_HOST=0.0.0.0 PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
EXPOSE 8000 8001 3001
ENTRYPOINT ["nexus"]
CMD ["serve", "app:nexus"]
