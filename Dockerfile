# Nexus with every plugin: not as root, without a compiler, on a root file system that may be read-only.
# docs/how-to/deployment.md tells how to build it, and an image with an application on top of it.
FROM python:3.13-slim-trixie AS build
WORKDIR /source
COPY pyproject.toml README.md LICENSE constraints.txt ./
COPY nexus_core nexus_core
COPY plugins plugins
RUN python -m venv --without-pip /opt/nexus
RUN pip --python /opt/nexus/bin/python install --no-cache-dir --constraint constraints.txt . ./plugins/*/

FROM python:3.13-slim-trixie
# A volume on /etc/ssl/certs hides whom TLS trusts, and that is where Deployments like to have a certificate of their own.
RUN groupadd --gid 10001 nexus \
    && useradd --uid 10001 --gid 10001 --home-dir /app --no-create-home --shell /usr/sbin/nologin nexus \
    && install -D -m 0444 /etc/ssl/certs/ca-certificates.crt /usr/local/share/nexus/ca-certificates.crt
COPY --from=build /opt/nexus /opt/nexus
WORKDIR /app
USER 10001:10001
ENV PATH=/opt/nexus/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    SSL_CERT_FILE=/usr/local/share/nexus/ca-certificates.crt \
    XDG_STATE_HOME=/tmp \
    XDG_CONFIG_HOME=/tmp \
    NEXUS_APP=app:nexus \
    NEXUS_HOST=0.0.0.0 \
    HEALTH_URL=http://127.0.0.1:8000/health/live
# API, command line, MCP, metrics. It listens beyond the container, so it starts only with authentication.
EXPOSE 8000 8001 3001 9090
STOPSIGNAL SIGTERM
# No proxy of the environment, and any certificate: it is made for another name, and this is the container itself.
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 \
    CMD ["python", "-c", "import os, ssl, urllib.request as r; r.build_opener(r.ProxyHandler({}), r.HTTPSHandler(context=ssl._create_unverified_context())).open(os.environ['HEALTH_URL'], timeout=4)"]
ENTRYPOINT ["nexus"]
CMD ["serve"]
