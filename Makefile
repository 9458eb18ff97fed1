# SPDX-License-Identifier: AGPL-3.0-or-later

GO          ?= go
PREFIX      ?= /usr/local
DESTDIR     ?=
FUZZRUNS    ?= 200000
BENCHFLAGS  ?=
PAGEFLAGS   ?=
PICTURES    ?= bin/pictures
STATICCHECK ?= honnef.co/go/tools/cmd/staticcheck@v0.7.0
VERSION     ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)

# The version comes from git describe above; Go's own stamp fails where .git
# belongs to another user, as in containers.
export GOFLAGS := -buildvcs=false $(GOFLAGS)

BUILD = $(GO) build -trimpath -ldflags '-X main.version=$(VERSION)' -o bin/ostree-upload ./cmd/ostree-upload

# `go test` with a line for each package, what failed, and what was skipped.
TEST = $(GO) run ./hack/gotest

# The packages whose tests take seconds: not those that run the whole program.
quick = $$($(GO) list ./... | grep -v -e '/test/system$$' -e '/test/crash$$' -e '/test/browser$$')

.PHONY: build build-client packages packages-test image-test generated help deps promtool versitygw demo demo-s3 bench check lint security test race race-quick crash fuzz changelog install install-client clean

build:               ## bin/ostree-upload; what plain `make` does
	@hack/deps.sh build
	$(BUILD)

build-client:        ## bin/ostree-upload-client, without libostree: push, sessions, gentoken
	CGO_ENABLED=0 $(BUILD:bin/ostree-upload=bin/ostree-upload-client)

packages: build build-client ## bin/packages: .deb and .rpm of server and client
	hack/packages.sh '$(VERSION)'

packages-test: packages ## install them in a fresh root that is booted, some minutes; as root on Debian
	hack/packages-deps.sh
	PACKAGES='$(CURDIR)/bin/packages' $(TEST) -count=1 -timeout 30m ./test/install ./tools/manual

image-test: deps     ## build the images of the Dockerfile and run them, without a daemon; as root on Debian
	hack/packages-deps.sh
	IMAGES=1 $(TEST) -count=1 -timeout 30m -run '^TestImages$$' ./test/install

generated: deps      ## packaging/generated: manual pages and completions, from the command line's definitions
	$(GO) test ./cmd/ostree-upload -count=1 -run '^TestGenerated$$' -update

help:                ## this list
	@sed -n 's/^\([a-z0-9-]*\):.*## \(.*\)/  make \1\t\2/p' Makefile | expand -t 24

deps:                ## install what is missing for tests: libostree, ostree, pkg-config, gcc
	@hack/deps.sh

browser:             ## install chromium, if the machine has none: the tests of the page need it
	@hack/deps.sh browser || echo "no chromium: the tests of the page will be skipped" >&2

promtool:            ## bin/promtool, if the machine has none: the test of the alert rules needs it
	@hack/promtool.sh bin

versitygw:           ## bin/versitygw, if the machine has none: an S3 store for tests, a minute or two at first
	@hack/versitygw.sh bin

demo: deps build     ## push, kill, resume and pull real files of this machine
	$(GO) run ./tools/demo bin/ostree-upload

demo-s3: deps build versitygw ## two servers before one object store: push, kill one, push again, pull
	$(GO) run ./tools/demo -s3 bin/ostree-upload

page: deps build     ## the operator's page of a server that is busy; PAGEFLAGS='-address 127.0.0.1:8080'
	$(GO) run ./tools/page $(PAGEFLAGS) bin/ostree-upload

page-pictures: deps browser build ## pictures of the page in PICTURES, and those of docs/ made anew
	$(GO) run ./tools/page -pictures '$(PICTURES)' -docs docs/pictures bin/ostree-upload

bench: deps build versitygw ## measure pushes beside rsync, ostree pull and others; docs/performance.md
	@hack/bench-deps.sh
	$(GO) run ./tools/bench $(BENCHFLAGS) bin/ostree-upload

check: lint          ## before a commit, some minutes: lint, and all tests but those of the whole program
	$(TEST) -short $(quick)

test: deps promtool versitygw ## all tests
	$(TEST) -timeout 30m ./...

race: deps browser   ## all tests, watched for data races
	$(TEST) -race -timeout 60m ./...

race-quick: deps     ## the tests of `make check`, watched for data races
	$(TEST) -race -timeout 30m $(quick)

crash: deps          ## crashes, power cuts, calls that fail, full disks, at full length
	CRASH=full $(GO) test -timeout 3h -v -run '^Test(RandomKills|PowerCut[A-Za-z]*|FaultAtSystemCalls|StopAtAnyMoment|DiskFull|Readers|BusyRepository|Fleet|Janitor|FailedSync|RequestsOfPublishFail|StoppedAtEachRequest|[A-Za-z]*Points)$$' ./publish ./test/crash ./test/system

fuzz: deps           ## each fuzz target with FUZZRUNS inputs
	FUZZRUNS=$(FUZZRUNS) hack/fuzz.sh

lint: deps           ## gofmt, go vet with and without libostree, staticcheck, the form of changelog files
	@hack/changelog.sh check
	@unformatted=$$("$$($(GO) env GOROOT)/bin/gofmt" -l .) && test -z "$$unformatted" || { echo "not gofmt'ed: $$unformatted"; exit 1; }
	$(GO) vet ./... && CGO_ENABLED=0 $(GO) vet ./cmd/... ./internal/push/... ./internal/client/... && $(GO) vet -tags faults ./internal/fault
	$(GO) run $(STATICCHECK) ./...

security:            ## known vulnerabilities, and patterns of unsafe code; takes some minutes at first
	hack/security.sh

changelog:           ## make the files of changelog/unreleased the release VERSION=... of CHANGELOG.md
	@test '$(origin VERSION)' != file || { echo 'usage: make changelog VERSION=v1.2.3' >&2; exit 2; }
	hack/changelog.sh release '$(VERSION)'

# A program with its manual page and completions.
INSTALL = @set -e; to='$(DESTDIR)$(PREFIX)'; from=packaging/generated; put() { \
		echo "$$3"; install -D -m "$$1" "$$2" "$$3"; }; \
	put 0755 bin/$(1) "$$to/bin/$(1)"; \
	put 0644 $$from/$(1).1 "$$to/share/man/man1/$(1).1"; \
	put 0644 $$from/$(1).bash "$$to/share/bash-completion/completions/$(1)"; \
	put 0644 $$from/_$(1) "$$to/share/zsh/site-functions/_$(1)"; \
	put 0644 $$from/$(1).fish "$$to/share/fish/vendor_completions.d/$(1).fish"

install: bin/ostree-upload ## the program, its manual page and completions, to DESTDIR/PREFIX
	$(call INSTALL,ostree-upload)

install-client: bin/ostree-upload-client ## the same for ostree-upload-client
	$(call INSTALL,ostree-upload-client)

# Root may have no Go, and needs none if what is built is not older than anything
# that it is made of. A file that is gone shows in its folder's time.
sources = $(shell find cmd internal journal publish tusstore go.mod go.sum Makefile $(wildcard .git/logs/HEAD))

bin/ostree-upload: $(sources)
	$(MAKE) build

bin/ostree-upload-client: $(sources)
	$(MAKE) build-client

clean:               ## remove what make made
	rm -rf bin
