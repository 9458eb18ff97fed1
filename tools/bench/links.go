// SPDX-License-Identifier: AGPL-3.0-or-later

//go:build linux

package main

import (
	"context"
	"time"

	"github.com/lirios/ostree-upload/test/link"
)

// The thin link of issue and docs: 20 Mbit/s, and 50 ms each way.
const (
	thinRate  = 20_000_000 / 8
	thinDelay = 50 * time.Millisecond
)

var thin = link.Faults{Rate: thinRate, Delay: thinDelay}

// slow is a push through the thin link, and the peers that can go that way.
func (b *bench) slow(ctx context.Context) ([]contender, error) {
	ssh, err := link.Listen(b.ssh.address)
	if err != nil {
		return nil, err
	}
	if err := b.serve(ctx, b.update); err != nil {
		return nil, err
	}
	web, err := link.Listen(b.web.address)
	if err != nil {
		return nil, err
	}
	context.AfterFunc(ctx, func() { ssh.Close(); web.Close() })
	ssh.Set(thin)
	web.Set(thin)
	return append(b.inEach(0, b.update, through(thin, nil)),
		b.rsync(b.update, ssh.Address()),
		b.pull(b.update, web.Address()),
	), nil
}

// first is a push of what the server has nothing of, through the thin link.
func (b *bench) first(context.Context) ([]contender, error) {
	return []contender{
		b.pushing(b.share, through(thin, nil), "auto"),
		b.pushing(b.share, through(thin, nil), "archive"),
		b.pushing(b.share, through(thin, nil), "zstd"),
	}, nil
}

// lan is a push over a fast network, where nothing should be lost by looking for fewer
// bytes.
func (b *bench) lan(context.Context) ([]contender, error) {
	fast := link.Faults{Rate: 1_000_000_000 / 8, Delay: 100 * time.Microsecond}
	return []contender{
		b.pushing(b.update, through(fast, nil), "auto"),
		b.pushing(b.update, through(fast, nil), "archive"),
	}, nil
}

// cuts is a push whose connections are reset again and again.
func (b *bench) cuts(context.Context) ([]contender, error) {
	faults := thin
	faults.CutAfter = 5_000_000
	return b.inEach(0, b.update, through(faults, nil)), nil
}

// outages is a push over a link that goes down again and again.
func (b *bench) outages(context.Context) ([]contender, error) {
	return []contender{b.pushing(b.update, through(thin, func(l *link.Proxy, done chan struct{}) {
		for wait(17*time.Second, done) {
			l.Refuse()
			l.Cut(link.Reset)
			wait(3*time.Second, done)
			l.Accept()
		}
	}), "auto")}, nil
}

// kills is a push that is killed again and again. What it costs is what each run
// asks anew, and of each connection one object that was cut.
func (b *bench) kills(context.Context) ([]contender, error) {
	return b.inEach(20, b.update, through(thin, nil)), nil
}

// wait waits, and reports false if done is closed before.
func wait(d time.Duration, done chan struct{}) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-done:
		return false
	}
}

// through is a route over a link with faults, and with worse while it is used.
func through(faults link.Faults, worse func(*link.Proxy, chan struct{})) route {
	return func(_ context.Context, _ *bench, server string) (string, func(*trial) error, error) {
		l, err := link.Listen(server)
		if err != nil {
			return "", nil, err
		}
		l.Set(faults)
		done, over := make(chan struct{}), make(chan struct{})
		go func() {
			defer close(over)
			if worse != nil {
				worse(l, done)
			}
		}()
		return l.Address(), func(t *trial) error {
			close(done)
			<-over
			t.Delivered = l.Delivered()
			if faults.Rate == thinRate {
				t.Use = float64(t.Payload) / (t.Seconds * thinRate)
			}
			return l.Close()
		}, nil
	}
}

// proxied is a push through nginx, which lets requests of at most 1 MiB through
// and collects each before it passes it on.
func (b *bench) proxied(context.Context) ([]contender, error) {
	by := func(ctx context.Context, b *bench, server string) (string, func(*trial) error, error) {
		web, err := b.startNginx(ctx, `client_max_body_size 1m;
    location / {
      proxy_pass http://`+server+`;
      proxy_request_buffering on;
    }`)
		if err != nil {
			return "", nil, err
		}
		return web.address, func(*trial) error { web.stop(); return nil }, nil
	}
	straightly := b.pushing(b.update, straight, "auto")
	straightly.name += ", straight"
	proxied := b.pushing(b.update, by, "auto")
	proxied.name += ", by nginx"
	return []contender{proxied, straightly}, nil
}
