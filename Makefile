# SPDX-License-Identifier: AGPL-3.0-or-later

GO          ?= go
PREFIX      ?= /usr/local
DESTDIR     ?=
FUZZTIME    ?= 20s
BENCHFLAGS  ?=
STATICCHECK ?= honnef.co/go/tools/cmd/staticcheck@v0.7.0
VERSION     ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)

# The version comes from git describe above; Go's own stamp fails where .git
# belongs to another user, as in containers.
export GOFLAGS := -buildvcs=false $(GOFLAGS)

BUILD = $(GO) build -trimpath -ldflags '-X main.version=$(VERSION)' -o bin/ostree-upload ./cmd/ostree-upload

.PHONY: deps build build-client demo bench test race crash fuzz lint install clean

build: deps          ## bin/ostree-upload
	$(BUILD)

build-client:        ## bin/ostree-upload-client, without libostree: push, sessions, gentoken
	CGO_ENABLED=0 $(BUILD:bin/ostree-upload=bin/ostree-upload-client)

deps:                ## install what is missing: libostree, ostree, pkg-config, gcc
	@hack/deps.sh

demo: build          ## push, kill, resume and pull real files of this machine
	$(GO) run ./tools/demo bin/ostree-upload

bench: build         ## measure pushes beside rsync, ostree pull and others; docs/performance.md
	@hack/bench-deps.sh
	$(GO) run ./tools/bench $(BENCHFLAGS) bin/ostree-upload

test: deps           ## all tests
	$(GO) test ./...

race: deps           ## all tests, watched for data races
	$(GO) test -race ./...

crash: deps          ## crashes, power cuts, calls that fail, full disks, at full length
	CRASH=full $(GO) test -timeout 3h -v -run '^Test(RandomKills|PowerCut[A-Za-z]*|FaultAtSystemCalls|StopAtAnyMoment|DiskFull|Readers|Janitor|FailedSync|[A-Za-z]*Points)$$' ./test/crash ./test/system

fuzz: deps           ## each fuzz target for FUZZTIME
	FUZZTIME=$(FUZZTIME) hack/fuzz.sh

lint: deps           ## gofmt, go vet with and without libostree, staticcheck
	@unformatted=$$("$$($(GO) env GOROOT)/bin/gofmt" -l .) && test -z "$$unformatted" || { echo "not gofmt'ed: $$unformatted"; exit 1; }
	$(GO) vet ./... && CGO_ENABLED=0 $(GO) vet ./cmd/... ./internal/push/... && $(GO) vet -tags faults ./internal/fault
	$(GO) run $(STATICCHECK) ./...

install:             ## to DESTDIR/PREFIX/bin
	test -x bin/ostree-upload || $(MAKE) build
	install -D -m 0755 bin/ostree-upload '$(DESTDIR)$(PREFIX)/bin/ostree-upload'

clean:               ## remove what make made
	rm -rf bin
