package node

import (
	"context"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/hansa-mesh/hansa/gossip"
	"github.com/hansa-mesh/hansa/placement"
)

// collector gives the metrics of all parts of a peer when they are asked for.
type collector struct{ n *Node }

// desc describes a metric of this package.
func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("hansa_"+name, help, labels, nil)
}

var (
	descPeers       = desc("peers", "Peers by state, as this one sees them, itself included.", "state")
	descApps        = desc("apps", "Apps that this peer knows.")
	descSteward     = desc("apps_stewarded", "Apps that this peer drives.")
	descConflicts   = desc("apps_conflicts", "Apps of which more than one version stands.")
	descRollouts    = desc("rollouts", "Components of the apps that this peer drives, by the state of their last roll-out.", "state")
	descAllocations = desc("allocations", "Allocations at this peer by state.", "state")
	descUsed        = desc("used", "What this peer has promised.", "resource")
	descCapacity    = desc("capacity", "What this peer gives to work.", "resource")
	descWorkCPU     = desc("work_cpu_cores", "What the work here uses of cores, by component; sampled every 10 seconds.", "namespace", "app", "component")
	descWorkMemory  = desc("work_memory_bytes", "Memory of the work here, by component.", "namespace", "app", "component")
	descChecks      = desc("health_checks_total", "Checks of work by outcome; late are those of the failed that had no answer in time.", "outcome")
	descReady       = desc("ready", "1 while this peer takes new work, as /readyz says.")
	descOutbox      = desc("outbox_messages", "Messages of the core that wait for other peers.")
	descPanics      = desc("core_panics_total", "Panics in one event, message or steward, which the peer went on without.")
	descFenced      = desc("fenced_total", "Exclusive work that was ended because its lease ran out.")
	descOverruns    = desc("lease_overruns_total", "Exclusive work that ran on after its lease, as after a resume from suspend.")
	descExtends     = desc("lease_extends_failed_total", "Tries to let exclusive work run on that its driver did not take, and that were repeated.")

	descBatches   = desc("store_batches_total", "Atomic batches that are on disk.")
	descWrites    = desc("store_writes_total", "Writes that are on disk.")
	descSyncs     = desc("store_syncs_total", "Syncs of the store's transactions.")
	descRefused   = desc("store_refused_total", "Batches refused for want of space.")
	descDiskBytes = desc("store_disk_bytes", "Size of the store on disk.")
	descFree      = desc("store_free_bytes", "Free space where the store lies.")

	descConns       = desc("transport_connections", "Connections to peers now.")
	descCalls       = desc("transport_calls_total", "Calls by outcome.", "outcome")
	descServed      = desc("transport_served_total", "Calls of other peers that were served.")
	descStrangers   = desc("transport_refused_total", "Connections refused: not admitted, or shut out.")
	descPackets     = desc("transport_gossip_packets_total", "Gossip packets by direction.", "direction")
	descJoins       = desc("transport_joins_total", "Newcomers by outcome.", "outcome")
	descGossipBytes = desc("gossip_bytes_total", "Bytes of gossip by direction.", "direction")
	descTableSyncs  = desc("gossip_table_syncs_total", "Exchanges of tables by outcome.", "outcome")
	descHealth      = desc("gossip_health_score", "How slow this peer finds itself; 0 is healthy.")
	descRecords     = desc("table_records", "Records of a replicated table.", "table")

	descArtifacts     = desc("artifacts_total", "Artifacts moved by direction.", "direction")
	descArtifactBytes = desc("artifact_bytes_total", "Bytes of artifacts moved by direction.", "direction")
	descImageRequests = desc("registry_requests_total", "Requests of clients of the registry by action and class of the answer.", "action", "code")
	descImageBytes    = desc("registry_bytes_total", "Bytes of bodies that clients of the registry sent and got, by action.", "action", "code")
	descArtifactWrong = desc("artifact_wrong_chunks_total", "Chunks that peers sent and that were not right.")
	descArtifactLied  = desc("artifact_liars_total", "Times that a peer was found to have sent wrong bytes, and was avoided from then on.")
	descArtifactBusy  = desc("artifact_busy_total", "Requests for chunks that were sent to other peers, since this one had enough to do.")
	descInvocations   = desc("invocations_total", "Calls of functions by where they were answered.", "where")
)

// Describe implements prometheus.Collector. It announces nothing, since a
// registry asks before the peer runs, when to collect is to wait for a core
// that does not answer yet; each collected metric describes itself.
func (collector) Describe(chan<- *prometheus.Desc) {}

// Collect implements prometheus.Collector.
func (c collector) Collect(ch chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	count := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, v, labels...)
	}
	ready := 0.0
	if (backend{c.n}).Ready() == nil {
		ready = 1
	}
	gauge(descReady, ready)
	c.core(gauge)
	c.network(gauge, count)
	count(descPanics, float64(c.n.panics.Load()))
	fences := c.n.runner.Stats()
	count(descFenced, float64(fences.Fenced))
	count(descOverruns, float64(fences.Overruns))
	count(descExtends, float64(fences.ExtendsFailed))
	checks := c.n.runner.Checks()
	count(descChecks, float64(checks.Passed), "passed")
	count(descChecks, float64(checks.Failed), "failed")
	count(descChecks, float64(checks.Late), "late")
	s := c.n.store.Stats()
	count(descBatches, float64(s.Batches))
	count(descWrites, float64(s.Writes))
	count(descSyncs, float64(s.Syncs))
	count(descRefused, float64(s.Refused))
	gauge(descDiskBytes, float64(s.DiskBytes))
	gauge(descFree, float64(s.Free))
	moved, calls := c.n.mover.Moved(), c.n.router.Counts()
	count(descArtifacts, float64(moved.Fetched), "fetched")
	count(descArtifacts, float64(moved.Served), "served")
	count(descArtifactBytes, float64(moved.FetchedBytes), "fetched")
	count(descArtifactBytes, float64(moved.ServedBytes), "served")
	count(descArtifactBytes, float64(moved.ResumedBytes), "resumed")
	count(descArtifactWrong, float64(moved.Wrong))
	count(descArtifactLied, float64(moved.Lied))
	count(descArtifactBusy, float64(moved.Busy))
	count(descInvocations, float64(calls.Local), "here")
	count(descInvocations, float64(calls.Remote), "elsewhere")
	for _, row := range c.n.pushes.rows() {
		count(descImageRequests, float64(row.requests), row.action, row.class)
		count(descImageBytes, float64(row.bytes), row.action, row.class)
	}
	c.images(gauge, count)
	c.functions(ch, gauge, count)
}

type setter func(d *prometheus.Desc, v float64, labels ...string)

// core gives what the core knows; nothing when it does not answer.
func (c collector) core(gauge setter) {
	ctx, cancel := context.WithTimeout(context.Background(), queryMax)
	defer cancel()
	var apps []placement.AppView
	var own []placement.AllocationView
	var images int
	var used, capacity placement.Resources
	if err := c.n.loop.look(ctx, func(core *placement.Peer) {
		apps, own = core.Apps(), core.Allocations()
		used, capacity = core.Used()
		images = len(core.Images())
	}); err != nil {
		return
	}
	rollouts := map[placement.RolloutState]int{}
	for _, state := range []placement.RolloutState{placement.RolloutGoing, placement.RolloutDone, placement.RolloutReverted, placement.RolloutStalled} {
		rollouts[state] = 0 // so that an alert on one sees it begin
	}
	driven, conflicts := 0, 0
	for _, a := range apps {
		if a.Steward == c.n.self().Peer {
			driven++
			countRollouts(rollouts, a)
		}
		if a.Conflict {
			conflicts++
		}
	}
	states := map[placement.AllocState]int{placement.AllocRunning: 0}
	for _, a := range own {
		states[a.State.State]++
	}
	gauge(descApps, float64(len(apps)))
	gauge(descImages, float64(images))
	gauge(descSteward, float64(driven))
	gauge(descConflicts, float64(conflicts))
	for state, n := range rollouts {
		gauge(descRollouts, float64(n), string(state))
	}
	for state, n := range states {
		gauge(descAllocations, float64(n), string(state))
	}
	for k, u := range c.n.usage.used(own) {
		gauge(descWorkCPU, float64(u.CPU)/1000, k.namespace, k.app, k.component)
		gauge(descWorkMemory, float64(u.Memory), k.namespace, k.app, k.component)
	}
	for d, r := range map[*prometheus.Desc]placement.Resources{descUsed: used, descCapacity: capacity} {
		gauge(d, float64(r.CPU)/1000, "cpu_cores")
		gauge(d, float64(r.Memory), "memory_bytes")
		gauge(d, float64(r.Disk), "disk_bytes")
	}
}

// countRollouts counts an app's components by the state of their last roll-out.
func countRollouts(states map[placement.RolloutState]int, a placement.AppView) {
	for _, comp := range a.Components {
		if comp.Rollout != nil {
			states[comp.Rollout.State]++
		}
	}
}

func (c collector) network(gauge, count setter) {
	states := map[string]int{gossip.StateAlive.String(): 0}
	for _, m := range c.n.members() {
		states[m.State.String()]++
	}
	for state, n := range states {
		gauge(descPeers, float64(n), state)
	}
	if c.n.outboxes != nil {
		gauge(descOutbox, float64(c.n.outboxes.waiting()))
	}
	t := c.n.link.Stats()
	gauge(descConns, float64(t.Conns))
	count(descCalls, float64(t.Calls-t.CallsFailed), "ok")
	count(descCalls, float64(t.CallsFailed), "failed")
	count(descServed, float64(t.Served))
	count(descStrangers, float64(t.Refused))
	count(descPackets, float64(t.PacketsIn), "in")
	count(descPackets, float64(t.PacketsOut), "out")
	count(descPackets, float64(t.PacketsDropped), "dropped")
	count(descJoins, float64(t.Joins), "ok")
	count(descJoins, float64(t.JoinsRefused), "refused")
	g := c.n.gossip.Stats()
	count(descGossipBytes, float64(g.BytesIn), "in")
	count(descGossipBytes, float64(g.BytesOut), "out")
	count(descTableSyncs, float64(g.Syncs-g.SyncsFailed), "ok")
	count(descTableSyncs, float64(g.SyncsFailed), "failed")
	gauge(descHealth, float64(g.HealthScore))
	for name, t := range c.n.tables {
		gauge(descRecords, float64(t.Counts().Records), name)
	}
}
