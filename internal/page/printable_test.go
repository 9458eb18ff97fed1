// SPDX-License-Identifier: AGPL-3.0-or-later

package page

import (
	"reflect"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/lirios/ostree-upload/internal/wire"
)

// Whatever a server says of a session, in whichever field, cannot control the
// terminal: nothing unprintable gets out but the ends of lines.
func TestServersTextIsPrintable(t *testing.T) {
	var s wire.Session
	const evil = "x\x1b[2J\u009b31m\r\n\x07"
	poison(reflect.ValueOf(&s).Elem(), evil)
	for what, text := range map[string]string{"table": Sessions([]wire.Session{s}, time.Now()), "page": Session(s)} {
		bad := strings.IndexFunc(text, func(r rune) bool { return r != '\n' && !unicode.IsPrint(r) })
		if bad >= 0 {
			t.Errorf("the %s has %q at %d", what, text[bad:], bad)
		}
		if strings.Contains(text, "\n\n") {
			t.Errorf("the %s has an end of line of the server's:\n%s", what, text)
		}
	}
	text := Session(s)
	for _, field := range []string{"session  ", "state ", "detail ", "token ", "ref ", "upload ", "problem "} {
		if !strings.Contains(text, field) {
			t.Errorf("the page lacks %q, so this says nothing of it:\n%s", field, text)
		}
	}
}

// poison puts a text into every field of v.
func poison(v reflect.Value, text string) {
	switch {
	case v.Type() == reflect.TypeFor[time.Time]():
	case v.Kind() == reflect.Struct:
		for i := range v.NumField() {
			poison(v.Field(i), text)
		}
	case v.Kind() == reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		poison(v.Index(0), text)
	case v.Kind() == reflect.String:
		v.SetString(text)
	case v.Kind() == reflect.Int64 || v.Kind() == reflect.Int:
		v.SetInt(7)
	case v.Kind() == reflect.Bool:
		v.SetBool(true)
	}
}
