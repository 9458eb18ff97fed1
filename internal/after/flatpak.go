// SPDX-License-Identifier: AGPL-3.0-or-later

package after

import (
	"context"
	"slices"
	"time"

	"github.com/lirios/ostree-upload/internal/durable"
	"github.com/lirios/ostree-upload/internal/program"
)

// flatpakTimeout is how long `flatpak build-update-repo` may take, which may make deltas.
const flatpakTimeout = 6 * time.Hour

const flatpakProgram = "flatpak"

// flatpak writes what Flatpak's clients read. With --generate-static-deltas that deletes
// all deltas but Flatpak's own, so that those of the server are brought back before the
// summary is written.
func (w *Work) flatpak(ctx context.Context) error {
	if w.Deltas.Work == "" || !w.Flatpak.MakesDeltas() {
		return w.updateRepo(ctx, w.Flatpak.Args)
	}
	err := w.Deltas.Keeper.Shelter(func() error { return w.updateRepo(ctx, w.Flatpak.WithoutSummary()) })
	if err != nil {
		return err
	}
	return w.updateRepo(ctx, w.Flatpak.WithoutDeltas())
}

func (w *Work) updateRepo(ctx context.Context, args []string) error {
	c := program.Command{Args: slices.Concat([]string{flatpakProgram, "build-update-repo"}, args, []string{w.Repo})}
	if err := w.run(ctx, c, flatpakTimeout); err != nil {
		return err
	}
	return durable.SyncFS(w.Repo)
}
