// SPDX-License-Identifier: AGPL-3.0-or-later

package client

import (
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

// limitUnsent bounds what a new socket holds back unsent. It is a help only, so
// a kernel that refuses is no error.
func limitUnsent(_, _ string, raw syscall.RawConn) error {
	return raw.Control(func(fd uintptr) {
		_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_NOTSENT_LOWAT, unsentLimit)
	})
}

// unacknowledged is how many written bytes the other side has not confirmed.
func unacknowledged(conn net.Conn) int64 {
	tcp, ok := conn.(*net.TCPConn)
	if !ok {
		return 0
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return 0
	}
	var n int
	if err := raw.Control(func(fd uintptr) { n, _ = unix.IoctlGetInt(int(fd), unix.SIOCOUTQ) }); err != nil {
		return 0
	}
	return int64(n)
}
