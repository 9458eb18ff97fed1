// SPDX-License-Identifier: AGPL-3.0-or-later

package bucket

import (
	"net"
	"time"
)

// stalling is a connection that ends when for some time no byte came or went. Writing
// puts off the end of reading, too: whoever sends a large body waits for its answer.
type stalling struct {
	net.Conn
	most time.Duration
}

func (c *stalling) Read(p []byte) (int, error) {
	if err := c.SetReadDeadline(time.Now().Add(c.most)); err != nil {
		return 0, err
	}
	return c.Conn.Read(p)
}

func (c *stalling) Write(p []byte) (int, error) {
	if err := c.SetDeadline(time.Now().Add(c.most)); err != nil {
		return 0, err
	}
	return c.Conn.Write(p)
}
