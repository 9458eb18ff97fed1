// SPDX-License-Identifier: AGPL-3.0-or-later

package wire

import "time"

// Status is the answer of GET /api/v1/status: how the server stands, for whoever looks
// after it.
type Status struct {
	Version  string         `json:"version"`
	Started  time.Time      `json:"started"`
	Healthy  bool           `json:"healthy"`
	Problem  string         `json:"problem,omitempty"` // why it is not
	Disks    []Disk         `json:"disks"`
	Unsent   int64          `json:"unsent"`  // bytes that uploads under way have announced and not sent
	Waiting  int            `json:"waiting"` // uploads that are to be verified
	Sessions map[string]int `json:"sessions"`
	Works    []Due          `json:"works"`
	// Certificate is when that of the server ends, zero without HTTPS.
	Certificate time.Time  `json:"certificate,omitzero"`
	Throughput  Throughput `json:"throughput"`
}

// Disk is the file system of a folder of the server.
type Disk struct {
	Folder string `json:"folder"` // "state" or "repository"
	Free   int64  `json:"free"`
	Keep   int64  `json:"keep"`   // what uploads leave free
	Inodes int64  `json:"inodes"` // free; -1 where they are made as needed
}

// Due is a work that follows a publish and is not done.
type Due struct {
	Work  string    `json:"work"`
	Since time.Time `json:"since"`
	Tries int       `json:"tries"`
	Error string    `json:"error,omitempty"` // of the last try
	Next  time.Time `json:"next,omitzero"`   // when it is tried again after that
}

// Throughput is how many bytes of uploads came in each of the last intervals.
type Throughput struct {
	Every int       `json:"every"` // seconds of an interval
	Until time.Time `json:"until"` // when the last one ended
	Bytes []int64   `json:"bytes"` // the oldest first; no more than there were since the start
}

// RepositoryList is the answer of GET /api/v1/repositories, of a server that has several:
// the state of each that the token may be used for.
type RepositoryList struct {
	Token        InfoToken         `json:"token"`
	Repositories map[string]string `json:"repositories"`
}
