// SPDX-License-Identifier: AGPL-3.0-or-later

package store

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
)

// KeepVersions has a bucket keep all that an object ever was, for Versions.
func (g *Gateway) KeepVersions(ctx context.Context, bucket string) error {
	_, err := g.Client().PutBucketVersioning(ctx, &s3.PutBucketVersioningInput{
		Bucket:                  &bucket,
		VersioningConfiguration: &types.VersioningConfiguration{Status: types.BucketVersioningStatusEnabled},
	})
	return err
}

// Versions are all that an object of a bucket ever was, in no order, without the space
// around it.
func (g *Gateway) Versions(ctx context.Context, bucket, key string) (all []string, err error) {
	c := g.Client()
	pages := s3.NewListObjectVersionsPaginator(c, &s3.ListObjectVersionsInput{Bucket: &bucket, Prefix: &key})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return nil, err
		}
		for _, v := range page.Versions {
			if aws.ToString(v.Key) != key {
				continue
			}
			text, err := read(ctx, c, &s3.GetObjectInput{Bucket: &bucket, Key: &key, VersionId: v.VersionId})
			if err != nil {
				return nil, fmt.Errorf("version %s of %s: %w", aws.ToString(v.VersionId), key, err)
			}
			all = append(all, text)
		}
	}
	return all, nil
}

func read(ctx context.Context, c *s3.Client, in *s3.GetObjectInput) (string, error) {
	out, err := c.GetObject(ctx, in)
	if err != nil {
		return "", err
	}
	defer out.Body.Close()
	b, err := io.ReadAll(out.Body)
	return strings.TrimSpace(string(b)), err
}

// A Move is one of a ref that somebody says he made.
type Move struct{ Who, Old, New string }

// OneLine checks that moves are all that made a ref what it ever was, one after the
// other from "" to head: each version but the first replaced the one before it. Two may
// say that they made one and the same move, as after a crash. Commits must be different.
func OneLine(versions []string, moves []Move, head string) error {
	was := map[string]bool{}
	for _, v := range versions {
		if was[v] {
			return fmt.Errorf("it was made %s twice", v)
		}
		was[v] = true
	}
	next := map[string]Move{}
	for _, m := range moves {
		if !was[m.New] {
			return fmt.Errorf("%s moved it to %s, which it never was", m.Who, m.New)
		}
		if other, two := next[m.Old]; two && other.New != m.New {
			return fmt.Errorf("both %s moved it from %q, to %s and to %s", other.Who+" and "+m.Who, m.Old, other.New, m.New)
		}
		next[m.Old] = m
	}
	at := ""
	for range versions {
		m, moved := next[at]
		if !moved {
			return fmt.Errorf("nobody moved it from %q, and it was %d times more: %d versions, moves %v", at, len(was), len(versions), moves)
		}
		delete(was, m.New)
		at = m.New
	}
	if len(was) > 0 || at != head {
		return fmt.Errorf("the moves lead to %s, and it is %s; it was %v, too", at, head, was)
	}
	return nil
}
