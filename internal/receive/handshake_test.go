// SPDX-License-Identifier: AGPL-3.0-or-later

package receive

import (
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/lirios/ostree-upload/internal/config"
)

// A handler that panics is a fault of the server: the log says so at the level that is
// always on, with the request, and it is counted as one.
func TestPanicIsToldAndCounted(t *testing.T) {
	var log strings.Builder
	var counted int
	var answered sync.WaitGroup
	answered.Add(1)
	logger := slog.New(slog.NewTextHandler(&log, nil))
	s := &Server{Shared: NewShared(1, config.Default, logger)}
	s.cfg = Config{
		Settings: config.Default,
		Log:      logger,
		Count: func(string) func(int) {
			return func(status int) { counted = status; answered.Done() }
		},
	}
	srv := httptest.NewUnstartedServer(s.answer(route{"GET /x", anyone, func(http.ResponseWriter, *request) error { panic("of a test") }}))
	srv.Config.ErrorLog = s.errorLog()
	srv.Start()
	res, err := http.Get(srv.URL + "/x")
	if err == nil {
		res.Body.Close()
		t.Errorf("the answer is %s", res.Status)
	}
	answered.Wait()
	srv.Close() // when its connections have ended, which log
	if counted != http.StatusInternalServerError {
		t.Errorf("counted as %d", counted)
	}
	if line := log.String(); !strings.Contains(line, "level=ERROR") || !strings.Contains(line, "of a test") || !strings.Contains(line, "handshake_test.go") {
		t.Errorf("the log has %q", line)
	}
}
