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

// signing are the options by which Flatpak signs with the server's keys, none if the
// configuration gives it other ones.
func (w *Work) signing() (args []string) {
	if w.Flatpak.Signs() {
		return nil
	}
	for _, key := range w.GPG.Keys {
		args = append(args, "--gpg-sign="+key)
	}
	if len(args) > 0 && w.GPG.Homedir != "" {
		args = append(args, "--gpg-homedir="+w.GPG.Homedir)
	}
	return args
}

func (w *Work) updateRepo(ctx context.Context, args []string) error {
	c := program.Command{Args: slices.Concat([]string{flatpakProgram, "build-update-repo"}, args, w.signing(), []string{w.Repo})}
	if err := w.run(ctx, c, flatpakTimeout); err != nil {
		return err
	}
	return durable.SyncFS(w.Repo)
}
