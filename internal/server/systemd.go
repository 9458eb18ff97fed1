// SPDX-License-Identifier: AGPL-3.0-or-later

package server

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
)

// A manager is the systemd that started this process, which NOTIFY_SOCKET leads to.
// Without one, nothing is told to anyone.
type manager struct{ log *slog.Logger }

// While the server is busy, it asks each extendEvery for extendBy more, up to
// extendAtMost in all: what takes longer hangs.
const (
	extendEvery  = 20 * time.Second
	extendBy     = time.Minute
	extendAtMost = time.Hour
)

// tell sends states as sd_notify(3) has them, one a line.
func (m manager) tell(states string) {
	if _, err := daemon.SdNotify(false, states); err != nil {
		m.log.Warn("systemd was not told", "state", states, "err", err)
	}
}

// busy shows what the server does, and keeps systemd from ending it for the time
// that this takes, until the returned done.
func (m manager) busy(states string) (done func()) {
	more := fmt.Sprintf("EXTEND_TIMEOUT_USEC=%d", extendBy.Microseconds())
	m.tell(states + "\n" + more)
	until := time.Now().Add(extendAtMost)
	return every(extendEvery, func() {
		if time.Now().Before(until) {
			m.tell(more)
		}
	})
}

// reload says that the server reads its files again, while it does.
func (m manager) reload(read func()) {
	m.tell("RELOADING=1\n" + daemon.SdNotifyMonotonicUsec())
	read()
	m.tell("READY=1")
}

// watch answers systemd's watchdog as long as the server is healthy, until the
// returned stop. It looks twice in each interval.
func (m manager) watch(status string, healthy func() error) (stop func()) {
	interval, err := daemon.SdWatchdogEnabled(false)
	if err != nil {
		m.log.Warn("the watchdog is not answered", "err", err)
	}
	if err != nil || interval == 0 {
		return func() {}
	}
	ill := false
	return every(interval/2, func() {
		err := healthy()
		if err != nil && !ill {
			m.log.Error("not healthy, so systemd's watchdog is not answered", "err", err)
			m.tell("STATUS=not healthy: " + strings.ReplaceAll(err.Error(), "\n", "; "))
		}
		if err == nil {
			m.tell("WATCHDOG=1\nSTATUS=" + status)
		}
		ill = err != nil
	})
}

// every calls do in each interval, until the returned stop, which waits for a call
// under way.
func every(interval time.Duration, do func()) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(interval)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
				do()
			}
		}
	}()
	return func() {
		cancel()
		<-done
	}
}
