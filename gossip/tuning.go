package gossip

import (
	"io"
	"log"
	"log/slog"
	"strings"
	"time"

	"github.com/hashicorp/memberlist"
)

// Failure detection, for round trips up to some 300 ms. With P the probe
// interval and n members:
//
//   - A crash is first probed after a time near exponential with mean P (each
//     of n-1 peers takes it in turn every (n-1)P): p50 0.7 P, p99 at most 4 P;
//     and every 2 P by the one that looks after it (watch.go), which ends the tail.
//   - That probe fails P later: a direct ping (probeTimeout), then three
//     indirect ones and one over a stream, which retransmits. The chain of an
//     indirect ping ends at probeTimeout + 2 RTT = 0.75 s at 200 ms, a little
//     late at P = 0.7 s, the stream's after one RTT: within.
//   - All hear of it within 0.8 s, and each asks for itself (ask.go): 2.1 s.
//
// Sum at 200 peers: p50 0.4 + 0.7 + 0.4 + 2.1 = 3.6 s, p99 near 4.9 s.
//
// memberlist's own suspicion lasts suspicionMult·max(1, log10 n)·P, that is 2.1 s
// up to ten peers, 3.6 s at 50, 4.8 s at 200, provided that one more peer
// (suspicionMult-2) could not reach it either, and three times as long if nobody
// confirms. It decides where asking does not: when somebody answered for the dead.
//
// A live peer is called dead only by one that hears of a suspicion and no refutation,
// and none of whose questions is answered meanwhile: four of its own, nine by way of
// others, and a stream. At 200 ms and 2 % loss a probe fails wrongly about once in a
// thousand (the ping is lost, 4 %, the indirect ones are late, and the stream needs a
// retransmission): in a mesh of 50 one suspicion in 20 s, of which each of the others
// would have to lose a dozen answers.
//
// memberlist slows its probes when nacks stay away, taking itself for ill. At
// 200 ms RTT nacks come too late whenever a peer really died (2 probeTimeout +
// RTT > P), so awarenessMax keeps that to a factor of two.
const (
	probeInterval  = 700 * time.Millisecond
	probeTimeout   = 350 * time.Millisecond
	indirectChecks = 3
	suspicionMult  = 3
	suspicionMax   = 3 // times the suspicion, without confirmation
	awarenessMax   = 2

	gossipInterval = 200 * time.Millisecond
	gossipNodes    = 4
	// Each peer sends on what it hears retransmit·⌈log10(n+1)⌉ times. Twelve
	// copies for each peer at n = 50 leave a refutation unheard by one of them
	// once in 10^5; with eight, a live peer was called dead within hours.
	// Operations and digests are repaired otherwise, and can do with less.
	retransmitMembers = 6
	retransmitRumours = 4
	retransmitNotices = 4
	retransmitHashes  = 2 // of the square of a small mesh's size: see hashNodes
	gossipToDead      = 30 * time.Second
	pushPullEvery     = 30 * time.Second
	streamTimeout     = 5 * time.Second

	// protocolVersion is memberlist's, the same in all builds.
	protocolVersion = memberlist.ProtocolVersion2Compatible
)

// memberlistConfig is the tuning, without the delegates.
func memberlistConfig(self string, logger *slog.Logger) *memberlist.Config {
	c := memberlist.DefaultWANConfig()
	c.Name = self
	c.ProbeInterval, c.ProbeTimeout = probeInterval, probeTimeout
	c.IndirectChecks = indirectChecks
	c.SuspicionMult, c.SuspicionMaxTimeoutMult = suspicionMult, suspicionMax
	c.AwarenessMaxMultiplier = awarenessMax
	c.GossipInterval, c.GossipNodes = gossipInterval, gossipNodes
	c.RetransmitMult = retransmitMembers
	c.GossipToTheDeadTime = gossipToDead
	c.PushPullInterval = pushPullEvery
	c.TCPTimeout = streamTimeout
	c.UDPBufferSize = packetBytesMax
	c.EnableCompression = false // bombs, and LZW does nothing for hashes
	c.RequireNodeNames = true
	c.BindPort = placeholderPort
	c.ProtocolVersion = protocolVersion
	c.QueueCheckInterval = time.Minute
	c.Logger = log.New(logWriter(logger), "", 0)
	return c
}

func logWriter(logger *slog.Logger) io.Writer {
	if logger.Handler() == slog.DiscardHandler {
		return io.Discard // package log then formats nothing
	}
	return &logLines{logger}
}

// logLines turns memberlist's lines into records of slog. What is routine for
// a mesh with losses is told at debug level only.
type logLines struct{ logger *slog.Logger }

func (l *logLines) Write(b []byte) (int, error) {
	line := strings.TrimSpace(string(b))
	if strings.HasPrefix(line, "[INFO]") {
		l.logger.Info(strings.TrimPrefix(line, "[INFO] memberlist: "))
	} else {
		l.logger.Debug(line)
	}
	return len(b), nil
}
