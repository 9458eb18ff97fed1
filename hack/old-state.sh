#!/bin/sh
# SPDX-License-Identifier: AGPL-3.0-or-later
#
#   hack/old-state.sh OLD-BINARY ARCHIVE.tar.gz
#
# Makes with an earlier ostree-upload what test/system/oldstate_test.go goes on
# with: repositories and state folders that this version left behind. The binary
# is one with fault points, by which client and server are stopped:
#
#   git worktree add /tmp/old COMMIT
#   (cd /tmp/old && go build -tags faults -o /tmp/old-ostree-upload ./cmd/ostree-upload)
#
# The archive has a folder for each way in which the server ended: `clean` by
# SIGTERM, `killed` by SIGKILL, both in the middle of an upload, and `publishing`
# by SIGKILL between the objects and the refs. In each of them:
#
#   build/  prod/        the build repository; the server's, with its state folder
#   ostree-upload.yaml   its configuration
#   token  session       the token, and the session that is to be resumed
set -eu

program=$(realpath "$1")
archive=$(realpath "$2")
umask 022
work=$(mktemp -d)
server=
trap '[ -z "$server" ] || kill "$server"; rm -rf "$work"' EXIT

(cd "$(dirname "$0")/.." && go build -o "$work/uncompress" ./hack/uncompress)

fail() {
	echo "$*" >&2
	cat server.log >&2
	exit 1
}

# start [FAULT]: starts the server, which is killed after the point FAULT.
start() {
	: >server.log
	FAULT_AT="${1:-}" FAULT_DO=kill-after "$program" receive --repo prod --address 127.0.0.1:0 --init 2>>server.log &
	server=$!
	for _ in $(seq 100); do
		port=$(sed -n 's/.*msg=receiving address=[^ ]*:\([0-9]*\).*/\1/p' server.log)
		[ -z "$port" ] || break
		sleep 0.1
	done
	[ -n "$port" ] || fail "the server does not start"
	export OSTREE_UPLOAD_ADDRESS="http://127.0.0.1:$port" OSTREE_UPLOAD_TOKEN="$(cat token)"
}

# end SIGNAL: ends the server.
end() {
	kill -"$1" "$server"
	wait "$server" || [ "$1" = KILL ] || fail "the server ended with $?"
	server=
}

# settings TTL: writes the configuration around the tokens, which it keeps. What
# is in the archive has to outlast years.
settings() {
	sed -i '/^session-ttl:/d; /^history:/d; /^limits:/d' ostree-upload.yaml
	printf 'session-ttl: %s\nhistory: 876000h\nlimits: {min-free-space: 1MiB}\n' "$1" >>ostree-upload.yaml
}

# commit REF MESSAGE: commits the folder tree to the build repository. Files are
# stored there without compressing them: one of 5 MiB then travels alone, and still
# takes little space in our archive.
commit() {
	ostree commit --repo=build --branch="$1" --subject="$2" --timestamp=2026-11-01T00:00:00Z \
		--owner-uid=0 --owner-gid=0 --tree=dir=tree >/dev/null
	"$work/uncompress" build
}

# small NAME N: N files of some 64 kB, which compress well.
small() {
	for i in $(seq "$2"); do
		yes "$1 $i" | head -c 65536 >"tree/$1-$i"
	done
}

# cut_off REF N: pushes the ref until N requests with bytes of objects were answered,
# and prints the session, which is open.
cut_off() {
	FAULT_AT="PATCH#$2" FAULT_DO=kill-after "$program" push --repo build --branch "$1" \
		--jobs 2 --chunk-size 64KiB >/dev/null 2>&1 && fail "the push of $1 was not cut"
	"$program" sessions --status open --json | sed -n 's/^ *"id": "\([a-z2-7]*\)".*/\1/p' | head -n 1
}

# state SESSION: prints its state.
state() {
	"$program" sessions show "$1" --json | sed -n 's/^ *"state": "\(.*\)".*/\1/p'
}

# past: a published, an aborted and an expired session.
past() {
	start
	mkdir tree
	small base 3
	commit os/base one
	"$program" push --repo build --branch os/base >/dev/null 2>&1
	small gone 6
	commit os/aborted two
	"$program" sessions abort "$(cut_off os/aborted 3)" >/dev/null
	end TERM

	settings 1s
	start
	commit os/expired three
	idle=$(cut_off os/expired 3)
	for _ in $(seq 100); do
		[ "$(state "$idle")" = open ] || break
		sleep 0.2
	done
	[ "$(state "$idle")" = expired ] || fail "session $idle is $(state "$idle")"
	end TERM
	settings 876000h
	rm tree/gone-*
}

# next: what the session to be resumed pushes, small files and a large one.
next() {
	small next 60
	yes 'a large file' | head -c $((5 << 20)) >tree/large
	commit os/base four
}

scene() {
	mkdir "$work/$1"
	cd "$work/$1"
	ostree init --repo=build --mode=archive
	"$program" gentoken --name ci --ref 'os/**' >token 2>/dev/null
	settings 876000h
	past
	next
	case $1 in
	publishing)
		start 'link the objects#1'
		"$program" push --repo build --branch os/base --retry-for 1s >push.log 2>&1 && fail "it was published"
		wait "$server" && fail "the server was not killed"
		server=
		sed -n 's/.*--resume \([a-z2-7]*\).*/\1/p' push.log | head -n 1 >session
		;;
	*)
		start
		# Cut twice: resuming stages what is whole of the first pack, and begins
		# another. The large file goes on from its byte.
		cut_off os/base 30 >/dev/null
		cut_off os/base 40 >session
		[ "$("$program" sessions show "$(cat session)" | grep -c '^upload ')" = 2 ] || fail "no pack and large file under way"
		if [ "$1" = clean ]; then end TERM; else end KILL 2>/dev/null; fi
		;;
	esac
	[ -s session ] || fail "there is no session"
	rm -rf tree push.log server.log
	cd "$work"
}

scene clean
scene killed
scene publishing
tar --sort=name --owner=0 --group=0 --numeric-owner -C "$work" \
	-c clean killed publishing | gzip -9n >"$archive"
ls -l "$archive"
