// SPDX-License-Identifier: AGPL-3.0-or-later

//go:build cgo

package system

import (
	"testing"

	"github.com/lirios/ostree-upload/test/site"
)

func TestMain(m *testing.M) { site.Main(m) }
