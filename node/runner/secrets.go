package runner

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/hansa-mesh/hansa/node/driver"
	"github.com/hansa-mesh/hansa/placement"
)

const (
	// secretWait is how long a start waits for a secret that can't be had, in
	// case it is about to come. Then the start has failed, and the core tries
	// again with its back-off, or elsewhere.
	secretWait = time.Minute
	// secretRetry is how long nothing is heard before it is looked at again.
	secretRetry = 5 * time.Second

	secretMode = 0o400
)

// giveSecrets puts the secrets that a component uses into its task. While one
// can't be had it waits, and shows why; a Stop ends the wait.
func (r *Runner) giveSecrets(ctx context.Context, id placement.AllocationID, t *task, spec placement.WorkSpec, built *driver.Task) error {
	names := spec.Spec.SecretNames()
	if len(names) == 0 {
		return nil
	}
	if r.cfg.Secret == nil {
		return errors.New("this peer has no secrets")
	}
	ctx, cancel := context.WithTimeout(ctx, secretWait)
	defer cancel()
	r.mu.Lock()
	if t.want == wantStop {
		r.mu.Unlock()
		return context.Canceled
	}
	t.cancel = cancel
	r.mu.Unlock()
	defer func() {
		r.mu.Lock()
		t.cancel = nil
		r.mu.Unlock()
	}()
	for {
		var changed <-chan struct{} // before the look, so that no change is missed
		if r.cfg.SecretsChanged != nil {
			changed = r.cfg.SecretsChanged()
		}
		values, err := r.secretValues(ctx, spec.Key.Namespace, names)
		if err == nil {
			return give(spec.Spec, values, built)
		}
		if errors.Is(err, placement.ErrConflict) { // it belongs elsewhere
			return err
		}
		r.report(id, t, placement.WorkState{State: placement.AllocStarting, Driver: t.driver, Reason: "waits: " + err.Error()})
		retry := time.NewTimer(secretRetry)
		select {
		case <-ctx.Done():
			retry.Stop()
			return err
		case <-changed:
			retry.Stop()
		case <-retry.C:
		}
	}
}

func (r *Runner) secretValues(ctx context.Context, namespace string, names []string) (map[string][]byte, error) {
	values := map[string][]byte{}
	for _, name := range names {
		value, err := r.cfg.Secret(ctx, namespace, name)
		if err != nil {
			return nil, err
		}
		values[name] = value
	}
	return values, nil
}

// give puts values where the manifest wants them. No error says more of a value
// than what is wrong with it.
func give(c placement.Component, values map[string][]byte, built *driver.Task) error {
	size := 0
	for k, v := range built.Env {
		size += len(k) + len(v) + 2
	}
	for _, name := range slices.Sorted(maps.Keys(c.Secrets)) {
		use, value := c.Secrets[name], values[name]
		if use.Env != "" {
			if bytes.IndexByte(value, 0) >= 0 {
				return fmt.Errorf("secret %s holds a NUL byte, which no variable can: give it as a file", name)
			}
			if size += len(use.Env) + len(value) + 2; size > driver.EnvBytesMax {
				return fmt.Errorf("secret %s: with it the environment has more than %d bytes: give it as a file", name, driver.EnvBytesMax)
			}
			built.Env[use.Env] = string(value)
		}
		if use.File != "" {
			mode, err := placement.FileMode(use.Mode, secretMode)
			if err != nil {
				return fmt.Errorf("secret %s: %w", name, err)
			}
			built.Files = append(built.Files, driver.File{Path: use.File, Content: value, Mode: mode, Secret: true})
		}
	}
	return nil
}

// authorize gives a container's task the credentials for its image's registry. That
// a secret is not there the wait for those of the component has told.
func (r *Runner) authorize(ctx context.Context, spec placement.WorkSpec, built *driver.Task) (err error) {
	to := built.Container
	if to == nil || to.Digest != "" || r.cfg.Credentials == nil { // what is in the mesh comes from no registry
		return nil
	}
	to.Username, to.Password, err = r.cfg.Credentials(ctx, spec.Key.Namespace, *spec.Spec.Container)
	return err
}
