package docker

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"

	cerrdefs "github.com/containerd/errdefs"
	"github.com/moby/moby/client"
)

// networkName is the engine's name of a network that tasks share.
func (d *Driver) networkName(network string) string {
	sum := sha256.Sum256([]byte(network))
	return "hansa-" + d.mark + "-" + hex.EncodeToString(sum[:6])
}

// join makes the network if there is none yet. The caller holds its lock until a
// container is on it.
func (d *Driver) join(ctx context.Context, cli *client.Client, network string) (string, error) {
	name := d.networkName(network)
	_, err := cli.NetworkInspect(ctx, name, client.NetworkInspectOptions{})
	if err == nil {
		return name, nil
	}
	if !cerrdefs.IsNotFound(err) {
		return "", fmt.Errorf("the app's network: %w", d.engine.lost(err))
	}
	_, err = cli.NetworkCreate(ctx, name, client.NetworkCreateOptions{
		Driver: "bridge", Labels: map[string]string{labelScope: d.c.Scope, labelNetwork: network},
	})
	if err != nil && !cerrdefs.IsConflict(err) {
		return "", fmt.Errorf("the app's network can't be made: %s", words(d.engine.lost(err)))
	}
	return name, nil
}

// leave removes the network unless a container is on it, be it one that ended.
func (d *Driver) leave(ctx context.Context, cli *client.Client, network string) {
	if network == "" {
		return
	}
	defer d.nets.Lock(network)()
	all, err := cli.ContainerList(ctx, client.ContainerListOptions{
		All: true, Filters: d.scoped().Add("label", labelNetwork+"="+network),
	})
	if err != nil || len(all.Items) > 0 {
		return // Collect finds it
	}
	if _, err := cli.NetworkRemove(ctx, d.networkName(network), client.NetworkRemoveOptions{}); err != nil && !cerrdefs.IsNotFound(err) {
		d.c.Log.Warn("the network of an app is not removed", "network", network, "error", err)
	}
}

// scoped is the filter for what is this driver's.
func (d *Driver) scoped() client.Filters {
	return make(client.Filters).Add("label", labelScope+"="+d.c.Scope)
}
