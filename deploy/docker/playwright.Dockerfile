# syntax=docker/dockerfile:1
#
# Playwright MCP with Debian's Chromium, under the adapter's user, so that each can read what the other writes. See docs/playwright.md.

FROM node:24-trixie-slim
RUN apt-get update \
  && apt-get install --yes --no-install-recommends chromium fonts-liberation \
  && rm -rf /var/lib/apt/lists/* \
  && npm install --global --ignore-scripts --no-audit --no-fund @playwright/mcp@0.0.83 \
  && groupadd --system --gid 10001 adapter \
  && useradd --system --uid 10001 --gid 10001 --create-home --shell /usr/sbin/nologin adapter \
  && install -d -o 10001 -g 10001 -m 2770 /data /data/sessions
USER 10001:10001
WORKDIR /home/adapter
EXPOSE 8931
# A container is its sandbox: Chromium's own needs privileges that this one is not given.
ENTRYPOINT ["playwright-mcp", "--host", "0.0.0.0", "--port", "8931", "--executable-path", "/usr/bin/chromium", "--headless", "--isolated", "--no-sandbox", "--caps", "pdf", "--snapshot-mode", "none", "--file-paths", "absolute"]
