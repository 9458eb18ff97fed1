# SPDX-License-Identifier: AGPL-3.0-or-later
#
#   docker build -t ostree-upload .                          server and client
#   docker build -t ostree-upload-client --target client .   the client on nothing
#
# docs/operating.md tells how they are run.

FROM golang:1.26-bookworm AS build
WORKDIR /src
COPY hack/deps.sh hack/
RUN hack/deps.sh build
COPY go.mod go.sum ./
RUN go mod download
COPY . .
ARG VERSION=dev
RUN make build build-client VERSION=$VERSION

FROM scratch AS client
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/
COPY --from=build /src/bin/ostree-upload-client /usr/bin/ostree-upload
WORKDIR /var
ENTRYPOINT ["/usr/bin/ostree-upload"]
CMD ["--help"]

FROM debian:bookworm-slim
RUN apt-get update \
 && apt-get install -y --no-install-recommends libostree-1-1 ostree ca-certificates \
 && rm -rf /var/lib/apt/lists/*
COPY --from=build /src/bin/ostree-upload /usr/bin/ostree-upload

# The process starts as root and becomes the owner of /var/repo: of what is mounted
# there or, in a fresh volume, this user.
RUN useradd --system --uid 10001 --home-dir /var/repo --no-create-home ostree \
 && install -d -o ostree -g ostree /var/repo
VOLUME /var/repo

# Where it looks unless it is told otherwise: /etc/ostree-upload.yaml, /var/repo.
ENV OSTREE_UPLOAD_CONFIG=/etc/ostree-upload.yaml
WORKDIR /var
EXPOSE 8080
HEALTHCHECK --interval=30s --timeout=10s --start-period=30s CMD ["ostree-upload", "health"]
# SIGTERM, which stops it; the default is there, too, but says nothing to a reader.
STOPSIGNAL SIGTERM
ENTRYPOINT ["ostree-upload"]
CMD ["receive"]
