# SPDX-License-Identifier: AGPL-3.0-or-later
#
#   docker build --build-arg VERSION=$(git describe --tags --always) -t ostree-upload .
#   docker run -v ostree:/srv/ostree ostree-upload gentoken
#   docker run -v ostree:/srv/ostree -p 8080:8080 ostree-upload receive --init

FROM golang:1.26-bookworm AS build
WORKDIR /src
COPY hack hack
COPY Makefile .
RUN make deps
COPY go.mod go.sum ./
RUN go mod download
COPY . .
ARG VERSION=dev
RUN make build VERSION=$VERSION

FROM debian:bookworm-slim
RUN apt-get update \
 && apt-get install -y --no-install-recommends libostree-1-1 ca-certificates \
 && rm -rf /var/lib/apt/lists/*
COPY --from=build /src/bin/ostree-upload /usr/bin/ostree-upload

# The server writes the repository as its owner, so the volume is this user's.
RUN useradd --system --uid 10001 --home-dir /srv/ostree --create-home ostree
USER ostree

# Here it finds its defaults: ostree-upload.yaml, and the repository in repo.
WORKDIR /srv/ostree
VOLUME /srv/ostree
EXPOSE 8080
ENTRYPOINT ["ostree-upload"]
CMD ["receive"]
