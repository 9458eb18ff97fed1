// SPDX-License-Identifier: AGPL-3.0-or-later

package link

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// echo is a server that sends back what it gets; got counts that.
func echo(t *testing.T) (address string, got *atomic.Int64) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	got = new(atomic.Int64)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				io.Copy(c, io.TeeReader(c, counter{got}))
			}()
		}
	}()
	return l.Addr().String(), got
}

type counter struct{ n *atomic.Int64 }

func (c counter) Write(b []byte) (int, error) { c.n.Add(int64(len(b))); return len(b), nil }

func open(t *testing.T) (*Proxy, *atomic.Int64) {
	t.Helper()
	address, got := echo(t)
	p, err := Listen(address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	return p, got
}

func dial(t *testing.T, p *Proxy) *net.TCPConn {
	t.Helper()
	c, err := net.Dial("tcp", p.Address())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c.(*net.TCPConn)
}

// exchange sends b, ends the stream and returns all that comes back. The kernel
// tells of a reset once: to who writes, or to who reads.
func exchange(t *testing.T, c *net.TCPConn, b []byte) ([]byte, error) {
	t.Helper()
	sent := make(chan error, 1)
	go func() {
		_, err := c.Write(b)
		c.CloseWrite()
		sent <- err
	}()
	back, err := io.ReadAll(c)
	c.Close()
	return back, errors.Join(err, <-sent)
}

func random(n int) []byte {
	b := make([]byte, n)
	rand.NewChaCha8([32]byte{1}).Read(b)
	return b
}

// A perfect link and a slow, long one change nothing, pass on the end of a
// stream and count what they carry.
func TestCarries(t *testing.T) {
	for name, f := range map[string]Faults{
		"perfect": {},
		"long":    {Delay: 5 * time.Millisecond},
		"thin":    {Rate: 50 << 20},
		"both":    {Delay: 5 * time.Millisecond, Rate: 50 << 20},
	} {
		t.Run(name, func(t *testing.T) {
			p, _ := open(t)
			p.Set(f)
			b := random(3<<20 + 7)
			back, err := exchange(t, dial(t, p), b)
			if err != nil || !bytes.Equal(back, b) {
				t.Errorf("%d bytes came back, %v", len(back), err)
			}
			if p.Delivered() != int64(len(b)) || p.Returned() != int64(len(b)) {
				t.Errorf("counted %d and %d", p.Delivered(), p.Returned())
			}
		})
	}
}

// The delay counts once each way and not for each chunk; the rate is that of
// all connections. Lower bounds only: a busy machine may be slower.
func TestTakesItsTime(t *testing.T) {
	p, _ := open(t)
	p.Set(Faults{Delay: 30 * time.Millisecond})
	start := time.Now()
	exchange(t, dial(t, p), []byte("x"))
	if took := time.Since(start); took < 60*time.Millisecond {
		t.Errorf("a round trip of 60 ms took %s", took)
	}
	p.Set(Faults{Rate: 4 << 20})
	start = time.Now()
	done := make(chan struct{})
	for range 2 {
		c := dial(t, p)
		go func() { exchange(t, c, random(256<<10)); done <- struct{}{} }()
	}
	<-done
	<-done
	if took := time.Since(start); took < 120*time.Millisecond {
		t.Errorf("two times 256 KiB over 4 MiB/s took %s", took)
	}
}

func TestCutAfter(t *testing.T) {
	const n = 100_000
	for _, how := range []How{Reset, Close} {
		p, got := open(t)
		p.Set(Faults{CutAfter: n, CutBy: how})
		back, err := exchange(t, dial(t, p), random(1<<20))
		if len(back) > n || p.Delivered() != n || got.Load() > n {
			t.Errorf("delivered %d, the server got %d, %d came back", p.Delivered(), got.Load(), len(back))
		}
		if how == Reset && !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("ended with %v", err)
		}
	}
}

func TestCutEvery(t *testing.T) {
	p, _ := open(t)
	p.Set(Faults{CutEvery: 10 * time.Millisecond})
	if _, err := io.ReadAll(dial(t, p)); !errors.Is(err, syscall.ECONNRESET) {
		t.Error(err)
	}
}

// At calls its hook once, and Cut from within it keeps the rest from arriving.
func TestAtCuts(t *testing.T) {
	p, _ := open(t)
	var calls atomic.Int64
	p.At(200_000, func() { calls.Add(1); p.Cut(Reset) })
	const all = 4 << 20
	// The way back may end before the reset arrives, but not with everything.
	if back, err := exchange(t, dial(t, p), random(all)); len(back) == all || calls.Load() != 1 {
		t.Errorf("%d bytes, %v, %d calls", len(back), err, calls.Load())
	}
	if n := p.Delivered(); n < 200_000 || n > 200_000+2*chunk {
		t.Errorf("delivered %d", n)
	}
	if back, err := exchange(t, dial(t, p), []byte("again")); string(back) != "again" || err != nil || calls.Load() != 1 {
		t.Errorf("%q, %v, %d calls", back, err, calls.Load())
	}
}

// Refuse refuses new connections, Accept takes them at the same address, and
// Target leads them elsewhere.
func TestRefuseAndTarget(t *testing.T) {
	p, first := open(t)
	old := dial(t, p)
	old.Write([]byte("x"))
	io.ReadFull(old, make([]byte, 1)) // it is through
	if err := p.Refuse(); err != nil {
		t.Fatal(err)
	}
	if c, err := net.Dial("tcp", p.Address()); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("%v, %v", c, err)
	}
	address, second := echo(t)
	p.Target(address)
	if err := p.Accept(); err != nil {
		t.Fatal(err)
	}
	exchange(t, dial(t, p), []byte("new"))
	exchange(t, old, []byte("old"))
	if first.Load() != 4 || second.Load() != 3 {
		t.Errorf("the first server got %d bytes, the second %d", first.Load(), second.Load())
	}
}

// A black hole takes what is sent and says nothing, not even that it is there.
func TestBlackHole(t *testing.T) {
	p, got := open(t)
	before := dial(t, p)
	before.Write([]byte("x"))
	io.ReadFull(before, make([]byte, 1))
	p.BlackHole(true)
	for _, c := range []*net.TCPConn{before, dial(t, p)} {
		if _, err := c.Write(random(1 << 20)); err != nil {
			t.Error(err)
		}
		c.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
		if n, err := c.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%d bytes, %v", n, err)
		}
	}
	p.BlackHole(false)
	if back, err := exchange(t, dial(t, p), []byte("again")); string(back) != "again" || err != nil {
		t.Errorf("%q, %v", back, err)
	}
	if got.Load() != int64(len("x"+"again")) {
		t.Errorf("the server got %d bytes", got.Load())
	}
}

func TestNobodyAtTarget(t *testing.T) {
	p, _ := open(t)
	p.Target("127.0.0.1:1")
	c, err := net.Dial("tcp", p.Address())
	if err == nil {
		defer c.Close()
		_, err = io.ReadAll(c)
	}
	if !errors.Is(err, syscall.ECONNRESET) {
		t.Error(err)
	}
}
