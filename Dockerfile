# The server in a container: `docker build -t personalagent .`, then docs/deploy.md.
FROM python:3.12-slim AS build
WORKDIR /build
COPY pyproject.toml README.md LICENSE constraints.txt ./
COPY src src
RUN python -m venv /opt/personalagent \
 && /opt/personalagent/bin/pip install --no-cache-dir '.[server,postgres,otel]' -c constraints.txt

FROM python:3.12-slim
LABEL org.opencontainers.image.title="PersonalAgent" \
      org.opencontainers.image.description="Any OpenAI client becomes personal" \
      org.opencontainers.image.licenses="Apache-2.0"
# llama.cpp is built with OpenMP, whose library the slim image lacks.
# hadolint ignore=DL3008
RUN apt-get update \
 && apt-get install -y --no-install-recommends libgomp1 \
 && rm -rf /var/lib/apt/lists/* \
 && groupadd --gid 10001 app && useradd --uid 10001 --gid app --home-dir /data --no-create-home app \
 && install -d -o app -g app -m 0700 /data /models
COPY --from=build /opt/personalagent /opt/personalagent
ENV PATH=/opt/personalagent/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    PERSONALAGENT_DATABASE_URL=sqlite:////data/personalagent.db \
    PERSONALAGENT_MODELS_DIR=/models \
    PERSONALAGENT_LOG_FORMAT=json
USER 10001:10001
WORKDIR /data
VOLUME ["/data", "/models"]
EXPOSE 8787
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=30s --retries=3 \
  CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8787/healthz', timeout=2)"]
ENTRYPOINT ["personalagent"]
CMD ["serve", "--host", "0.0.0.0"]
