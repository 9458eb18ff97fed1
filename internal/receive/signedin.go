// SPDX-License-Identifier: AGPL-3.0-or-later

package receive

import "context"

// signedInKey is under what the context of a request has the hash of the token that its
// sender signed in with at the operator's page.
type signedInKey struct{}

// SignedIn is ctx for requests that the operator's page makes for somebody who has shown
// it a token, of which it kept the hash. They are judged as if they brought that token.
func SignedIn(ctx context.Context, hash string) context.Context {
	return context.WithValue(ctx, signedInKey{}, hash)
}

// signedIn is the hash of the token that the request's sender signed in with, "" if
// there was no sign-in.
func signedIn(ctx context.Context) string {
	hash, _ := ctx.Value(signedInKey{}).(string)
	return hash
}
