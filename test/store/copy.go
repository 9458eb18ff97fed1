// SPDX-License-Identifier: AGPL-3.0-or-later

package store

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/lirios/ostree-upload/test/must"
)

// Copy has a folder be what a bucket has below a prefix that ends with a slash.
func Copy(url, bucket, prefix, dir string) error {
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	c := clientOf(url)
	pages := s3.NewListObjectsV2Paginator(c, &s3.ListObjectsV2Input{Bucket: &bucket, Prefix: &prefix})
	for pages.HasMorePages() {
		page, err := pages.NextPage(context.Background())
		if err != nil {
			return err
		}
		for _, o := range page.Contents {
			if err := copyObject(c, bucket, *o.Key, filepath.Join(dir, strings.TrimPrefix(*o.Key, prefix))); err != nil {
				return err
			}
		}
	}
	return nil
}

func copyObject(c *s3.Client, bucket, key, file string) error {
	got, err := c.GetObject(context.Background(), &s3.GetObjectInput{Bucket: &bucket, Key: &key})
	if err != nil {
		return err
	}
	body, err := io.ReadAll(got.Body)
	if err := errors.Join(err, got.Body.Close(), os.MkdirAll(filepath.Dir(file), 0o755)); err != nil {
		return err
	}
	return os.WriteFile(file, body, 0o644)
}

// Fill puts the files of a folder into a bucket, below a prefix that ends with a slash.
func Fill(t testing.TB, url, bucket, prefix, dir string) {
	t.Helper()
	c := clientOf(url)
	must.OK(t, filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		body, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		key := prefix + filepath.ToSlash(strings.TrimPrefix(path, dir+string(filepath.Separator)))
		_, err = c.PutObject(context.Background(), &s3.PutObjectInput{Bucket: &bucket, Key: &key, Body: bytes.NewReader(body)})
		return err
	}))
}
