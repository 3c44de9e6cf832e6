package docker

import (
	"encoding/json"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"path"
	"runtime"
	"slices"
	"strconv"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/mount"
	"github.com/moby/moby/api/types/network"
	"github.com/moby/moby/client"

	"github.com/hansa-mesh/hansa/node/driver"
)

// filesOfLog is how many files the engine keeps of its own log, each of LogMax.
const filesOfLog = 2

// milliMin is the least of a CPU that an engine takes for a limit.
const milliMin = 10

// containerName is that of one start of a task.
func (d *Driver) containerName(rec record) string {
	return fmt.Sprintf("hansa-%s-%s-%d", d.mark, driver.SafeID(rec.ID), rec.Starts)
}

// options are what the engine is asked to create for a task.
func (d *Driver) options(job driver.Task, rec record, net string, mounts []mount.Mount) (client.ContainerCreateOptions, error) {
	label, err := json.Marshal(rec)
	if err != nil {
		return client.ContainerCreateOptions{}, err
	}
	labels := map[string]string{labelScope: d.c.Scope, labelTask: job.ID, labelRecord: string(label)}
	if job.Container.Network != "" {
		labels[labelNetwork] = job.Container.Network
	}
	for k, v := range job.Labels {
		labels[labelPrefix+k] = v
	}
	exposed, bindings, err := publish(job)
	if err != nil {
		return client.ContainerCreateOptions{}, err
	}
	c := job.Container
	o := client.ContainerCreateOptions{
		Name: d.containerName(rec),
		Config: &container.Config{
			Image: rec.ImageID, User: c.User, WorkingDir: c.Dir, Entrypoint: c.Command, Cmd: c.Args,
			Env: environment(job), Labels: labels, ExposedPorts: exposed, StopSignal: job.StopSignal,
			Healthcheck: &container.HealthConfig{Test: []string{"NONE"}}, // the mesh checks
		},
		HostConfig: &container.HostConfig{
			RestartPolicy: container.RestartPolicy{Name: container.RestartPolicyDisabled},
			PortBindings:  bindings, ReadonlyRootfs: c.ReadOnly, CapAdd: c.CapAdd, CapDrop: c.CapDrop,
			Mounts: mounts, Tmpfs: tmpfs(c.Tmpfs), Resources: d.resources(job), LogConfig: d.logConfig(job.LogMax),
		},
	}
	if net != "" {
		o.HostConfig.NetworkMode = container.NetworkMode(net)
		end := &network.EndpointSettings{}
		if c.Alias != "" {
			end.Aliases = []string{c.Alias}
		}
		o.NetworkingConfig = &network.NetworkingConfig{EndpointsConfig: map[string]*network.EndpointSettings{net: end}}
	}
	return o, nil
}

// environment is the task's: the port that a container listens on is the one
// inside.
func environment(job driver.Task) []string {
	env := job.Environment()
	for name, p := range job.Ports {
		key := driver.PortEnv(name)
		if _, set := job.Env[key]; !set {
			env[key] = strconv.Itoa(p.Inside)
		}
	}
	list := make([]string, 0, len(env))
	for _, k := range slices.Sorted(maps.Keys(env)) {
		list = append(list, k+"="+env[k])
	}
	return list
}

// publish is which ports are open inside, and where on the host.
func publish(job driver.Task) (network.PortSet, network.PortMap, error) {
	exposed, bindings := network.PortSet{}, network.PortMap{}
	for name, p := range job.Ports {
		inside, ok := network.PortFrom(uint16(p.Inside), network.TCP)
		if !ok || p.Inside < 1 || p.Inside > 65535 {
			return nil, nil, fmt.Errorf("%w %q: port %q: %d is not a port", driver.ErrInvalid, job.ID, name, p.Inside)
		}
		exposed[inside] = struct{}{}
		host, number, err := net.SplitHostPort(job.HostPorts()[name])
		if err != nil {
			return nil, nil, fmt.Errorf("%w %q: port %q: %w", driver.ErrInvalid, job.ID, name, err)
		}
		ip, err := netip.ParseAddr(host)
		if err != nil {
			return nil, nil, fmt.Errorf("%w %q: port %q: %w", driver.ErrInvalid, job.ID, name, err)
		}
		bindings[inside] = append(bindings[inside], network.PortBinding{HostIP: ip, HostPort: number})
	}
	return exposed, bindings, nil
}

func tmpfs(sizes map[string]int64) map[string]string {
	if len(sizes) == 0 {
		return nil
	}
	out := make(map[string]string, len(sizes))
	for at, size := range sizes {
		out[path.Clean(at)] = ""
		if size > 0 {
			out[path.Clean(at)] = "size=" + strconv.FormatInt(size, 10)
		}
	}
	return out
}

func (d *Driver) resources(job driver.Task) container.Resources {
	pids := int64(job.Container.Pids)
	r := container.Resources{PidsLimit: &pids, Memory: job.Memory}
	if job.Memory > 0 {
		r.MemorySwap = job.Memory // no swap beside it
	}
	if job.CPU > 0 {
		milli := max(job.CPU, milliMin)
		milli = min(milli, int64(runtime.NumCPU())*1000) // an engine refuses more than there is
		r.NanoCPUs = milli * 1_000_000
	}
	if len(job.Devices) > 0 {
		r.DeviceRequests = []container.DeviceRequest{{
			Driver: "nvidia", DeviceIDs: job.Devices, Capabilities: [][]string{{"gpu"}},
		}}
	}
	return r
}

// logConfig bounds the engine's own log, from which the driver copies.
func (d *Driver) logConfig(sizeMax int64) container.LogConfig {
	size := strconv.FormatInt(sizeMax, 10)
	if kind, _ := d.engine.what(); kind == "podman" {
		return container.LogConfig{Type: "k8s-file", Config: map[string]string{"max-size": size}}
	}
	return container.LogConfig{Type: "json-file", Config: map[string]string{
		"max-size": size, "max-file": strconv.Itoa(filesOfLog),
	}}
}
