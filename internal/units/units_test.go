// SPDX-License-Identifier: AGPL-3.0-or-later

package units

import (
	"strings"
	"testing"
	"time"
)

func TestSize(t *testing.T) {
	for text, want := range map[string]Size{
		"0": 0, "0B": 0, "1B": 1, "1KiB": 1024, "1kB": 1000, "1KB": 1000, "8GiB": 8 << 30, "8 GiB": 8 << 30,
		"10MB": 10e6, "3TB": 3e12, "7TiB": 7 << 40,
	} {
		got, err := ParseSize(text)
		if err != nil || got != want {
			t.Errorf("%q: %d, %v", text, got, err)
		}
		if back, err := ParseSize(got.String()); err != nil || back != got {
			t.Errorf("%q: wrote %s, read %d, %v", text, got, back, err)
		}
	}
	for _, text := range []string{"", "1", "GiB", "-1B", "+1B", "1.5GiB", "1Gi", "1gib", "1GiBB", "9999999TiB",
		"99999999999999999999B", "1e3B", " 1B", "1B ", "1BiK"} {
		if got, err := ParseSize(text); err == nil {
			t.Errorf("%q: %d", text, got)
		}
	}
}

func TestRate(t *testing.T) {
	for text, want := range map[string]Rate{"500kB": 500e3, "2MB/s": 2e6, "64KiB/s": 64 << 10, "0": 0} {
		var got, back Rate
		if err := got.UnmarshalText([]byte(text)); err != nil || got != want {
			t.Errorf("%q: %d, %v", text, got, err)
		}
		if err := back.UnmarshalText([]byte(got.String())); err != nil || back != got {
			t.Errorf("%q: wrote %s, read %d, %v", text, got, back, err)
		}
	}
	for _, text := range []string{"", "500", "500kb/s", "2Mbit/s", "/s", "1MB/m", "1MB/s/s", "-1kB"} {
		var got Rate
		if err := got.UnmarshalText([]byte(text)); err == nil || !strings.Contains(err.Error(), "500kB") {
			t.Errorf("%q: %d, %v", text, got, err)
		}
	}
}

func TestDuration(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"0": 0, "30s": 30 * time.Second, "168h": 168 * time.Hour, "90d": 2160 * time.Hour, "1d12h": 36 * time.Hour, "0d": 0,
	} {
		if got, err := ParseDuration(text); err != nil || time.Duration(got) != want {
			t.Errorf("%q: %s, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "1", "-1s", "d", "1dd", "1d-1h", "-1d", "1h1d", "65535d9000000000s0ms9999999999s", "70000d"} {
		if got, err := ParseDuration(text); err == nil {
			t.Errorf("%q: %s", text, got)
		}
	}
}
