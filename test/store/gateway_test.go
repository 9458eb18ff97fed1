// SPDX-License-Identifier: AGPL-3.0-or-later

package store

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awsmiddleware "github.com/aws/aws-sdk-go-v2/aws/middleware"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/smithy-go"

	"github.com/lirios/ostree-upload/test/must"
)

// put writes an object on a condition, and returns its ETag or the code of the refusal.
func put(t *testing.T, c *s3.Client, key, body string, condition func(*s3.PutObjectInput)) (etag, code string) {
	in := &s3.PutObjectInput{Bucket: aws.String("repo"), Key: &key, Body: strings.NewReader(body), CacheControl: aws.String("no-cache")}
	condition(in)
	out, err := c.PutObject(t.Context(), in)
	if refused := smithy.APIError(nil); errors.As(err, &refused) {
		return "", refused.ErrorCode()
	}
	if err != nil {
		t.Error(err)
		return "", ""
	}
	return aws.ToString(out.ETag), ""
}

// Each answer tells the store's time, by which a server judges how old an object is.
func TestTellsTheTime(t *testing.T) {
	t.Parallel()
	g := New(t)
	g.Bucket(t, "repo")
	c := g.Client()
	put(t, c, "key", "body", isNew)
	out, err := c.GetObject(t.Context(), &s3.GetObjectInput{Bucket: aws.String("repo"), Key: aws.String("key")})
	must.OK(t, err)
	defer func() { must.OK(t, out.Body.Close()) }()
	now, told := awsmiddleware.GetServerTime(out.ResultMetadata)
	if !told || out.LastModified == nil || now.Sub(*out.LastModified).Abs() > time.Hour {
		t.Errorf("it is %v (%v), and the object was written %v", now, told, out.LastModified)
	}
}

func isNew(in *s3.PutObjectInput) { in.IfNoneMatch = aws.String("*") }

func isStill(etag string) func(*s3.PutObjectInput) {
	return func(in *s3.PutObjectInput) { in.IfMatch = &etag }
}

// Of rivals for an object one wins, and the others are told so: what the tests of the
// program take for granted of its store.
func TestConditionsHold(t *testing.T) {
	t.Parallel()
	g := New(t)
	g.Bucket(t, "repo")
	c := g.Client()
	condition := isNew
	for round := range 10 {
		var etags, codes [8]string
		var wg sync.WaitGroup
		for i := range etags {
			wg.Go(func() { etags[i], codes[i] = put(t, c, "ref", strings.Repeat("x", 8*round+i), condition) })
		}
		wg.Wait()
		won := strings.Join(etags[:], "")
		if lost := strings.Join(codes[:], " "); strings.Count(lost, "PreconditionFailed") != len(etags)-1 || won == "" {
			t.Fatalf("round %d: won %q, refused %q", round, won, lost)
		}
		condition = isStill(won)
	}
}

// Everybody reads a bucket by plain HTTP, with the header that was stored, and nobody
// writes to it without credentials.
func TestEverybodyReads(t *testing.T) {
	t.Parallel()
	g := New(t)
	g.Bucket(t, "repo")
	put(t, g.Client(), "a/path", "content", isNew)
	res, err := http.Get(g.URL + "/repo/a/path")
	must.OK(t, err)
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode != http.StatusOK || string(body) != "content" || res.Header.Get("Cache-Control") != "no-cache" {
		t.Errorf("%s, %v, %q: %v", res.Status, res.Header, body, err)
	}
	r, err := http.NewRequestWithContext(t.Context(), "PUT", g.URL+"/repo/a/path", bytes.NewReader([]byte("mine")))
	must.OK(t, err)
	res, err = http.DefaultClient.Do(r)
	must.OK(t, err)
	defer res.Body.Close()
	if res.StatusCode != http.StatusForbidden {
		t.Errorf("a write without credentials: %s", res.Status)
	}
}

// What is there survives the gateway, and the conditions hold for it.
func TestRestart(t *testing.T) {
	t.Parallel()
	g := New(t)
	g.Bucket(t, "repo")
	etag, _ := put(t, g.Client(), "ref", "one", isNew)
	g.Kill()
	must.OK(t, g.Restart(t.Context()))
	if _, code := put(t, g.Client(), "ref", "two", isNew); code != "PreconditionFailed" {
		t.Errorf("a new one where it is: %q", code)
	}
	if _, code := put(t, g.Client(), "ref", "two", isStill(etag)); code != "" {
		t.Errorf("in the place of what is there: %q", code)
	}
}

// Requests are counted by kind.
func TestRequests(t *testing.T) {
	t.Parallel()
	g := New(t)
	g.Bucket(t, "repo")
	before, err := g.Requests()
	must.OK(t, err)
	put(t, g.Client(), "ref", "one", isNew)
	put(t, g.Client(), "ref", "two", isNew)
	_, err = g.Client().HeadObject(t.Context(), &s3.HeadObjectInput{Bucket: aws.String("repo"), Key: aws.String("ref")})
	must.OK(t, err)
	after, err := g.Requests()
	must.OK(t, err)
	if text := Told(Since(before, after)); text != "HeadObject 1, PutObject 2" {
		t.Error(text)
	}
}
