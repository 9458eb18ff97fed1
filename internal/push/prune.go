// SPDX-License-Identifier: AGPL-3.0-or-later

package push

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"

	"github.com/lirios/ostree-upload/internal/hint"
)

// Prune has ostree delete from a build repository what its refs do not reach, or only
// tell what that would be, and passes on what it says.
func Prune(ctx context.Context, repo string, dryRun bool, says io.Writer) error {
	args := []string{"prune", "--refs-only", "--repo=" + repo}
	if dryRun {
		args = append(args, "--no-prune")
	}
	cmd := exec.CommandContext(ctx, "ostree", args...) // #nosec G204 -- the path is that of the user's own repository
	cmd.Stdout, cmd.Stderr = says, says
	err := cmd.Run()
	switch {
	case ctx.Err() != nil:
		return ended(ctx, err, "")
	case errors.Is(err, exec.ErrNotFound):
		return hint.Add(err, "--prune needs the ostree command; install it, or leave --prune out")
	case err != nil:
		return fmt.Errorf("prune repository %s: %w", repo, err)
	}
	return nil
}
