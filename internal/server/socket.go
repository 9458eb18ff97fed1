// SPDX-License-Identifier: AGPL-3.0-or-later

package server

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/lirios/ostree-upload/internal/hint"
)

// socketMode lets the owner of the repository and its group connect.
const socketMode = 0o660

// listenAtSocket makes a unix socket, for the owner and the group of the repository. It
// takes the place of one that a server has left behind.
func listenAtSocket(path, repo string) (net.Listener, error) {
	l, err := bindSocket(path)
	if errors.Is(err, unix.EADDRINUSE) {
		if err := removeLeftSocket(path); err != nil {
			return nil, err
		}
		l, err = bindSocket(path)
	}
	switch {
	case errors.Is(err, fs.ErrPermission):
		return nil, hint.Add(fmt.Errorf("listen at unix:%s: %w", path, err), "make a folder for it that user %d may write to, such as by RuntimeDirectory= of the service", os.Geteuid())
	case errors.Is(err, fs.ErrNotExist):
		return nil, hint.Add(fmt.Errorf("listen at unix:%s: %w", path, err), "make the folder %s, such as by RuntimeDirectory= of the service", filepath.Dir(path))
	case err != nil:
		return nil, fmt.Errorf("listen at unix:%s: %w", path, err)
	}
	if err := giveSocket(path, repo); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
}

// bindSocket makes the socket with its mode: nobody else can connect in between.
func bindSocket(path string) (peerListener, error) {
	umask := unix.Umask(^socketMode & 0o777)
	defer unix.Umask(umask)
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return peerListener{}, err
	}
	l.SetUnlinkOnClose(false)
	made, err := os.Lstat(path)
	return peerListener{l, made}, err
}

// removeLeftSocket removes a socket at which nobody listens any more: a server that is
// killed leaves its own.
func removeLeftSocket(path string) error {
	info, err := os.Lstat(path)
	if err != nil {
		return err
	}
	if info.Mode().Type() != fs.ModeSocket {
		return hint.Add(fmt.Errorf("listen at unix:%s: there is a file that is no socket", path), "remove it, or name another path with --address")
	}
	conn, err := net.DialTimeout("unix", path, time.Second)
	if err == nil {
		err = conn.Close()
	}
	if !errors.Is(err, unix.ECONNREFUSED) {
		return hint.Add(errors.Join(fmt.Errorf("listen at unix:%s: another program listens there", path), err), "stop it, or name another path with --address")
	}
	return os.Remove(path)
}

// giveSocket gives the socket to the owner of the repository, if root has made it. It
// goes by a descriptor of the socket: who may write to its folder could put another
// file into its place.
func giveSocket(path, repo string) error {
	uid, gid, err := ownerOf(repo)
	if errors.Is(err, fs.ErrNotExist) || err == nil && os.Geteuid() != 0 {
		return nil
	}
	if err != nil {
		return err
	}
	fd, err := unix.Open(path, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open the socket %s: %w", path, err)
	}
	defer unix.Close(fd) //nolint:errcheck // nothing was written
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFSOCK {
		return errors.Join(fmt.Errorf("the socket %s was replaced by another file", path), err)
	}
	if err := unix.Fchownat(fd, "", uid, gid, unix.AT_EMPTY_PATH); err != nil {
		return fmt.Errorf("give the socket %s to user %d: %w", path, uid, err)
	}
	return nil
}

// peerListener names the user at the other end of each connection.
type peerListener struct {
	*net.UnixListener
	made fs.FileInfo // the socket, which is removed in the end; nil: it is systemd's
}

// Close removes the socket, unless another one has taken its place.
func (l peerListener) Close() error {
	path := l.Addr().String()
	if now, err := os.Lstat(path); l.made != nil && err == nil && os.SameFile(now, l.made) {
		_ = os.Remove(path) // the owner may have no right to; the next start replaces it
	}
	return l.UnixListener.Close()
}

func (l peerListener) Accept() (net.Conn, error) {
	conn, err := l.AcceptUnix()
	if err != nil {
		return nil, err
	}
	return &peerConn{conn, peerOf(conn)}, nil
}

// peerConn is a connection over a unix socket.
type peerConn struct {
	*net.UnixConn
	peer peer
}

func (c *peerConn) RemoteAddr() net.Addr { return c.peer }

// A peer is the user at the other end of a unix socket, -1 for one who is not known.
type peer int

func (peer) Network() string  { return "unix" }
func (p peer) String() string { return "unix:" + strconv.Itoa(int(p)) }

func peerOf(conn *net.UnixConn) peer {
	raw, err := conn.SyscallConn()
	if err != nil {
		return -1
	}
	p := peer(-1)
	err = raw.Control(func(fd uintptr) {
		if cred, err := unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED); err == nil {
			p = peer(cred.Uid)
		}
	})
	if err != nil {
		return -1
	}
	return p
}
