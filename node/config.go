package node

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"regexp"
	"time"

	"github.com/hansa-mesh/hansa/node/api"
	"github.com/hansa-mesh/hansa/node/driver"
	"github.com/hansa-mesh/hansa/node/gpu"
	"github.com/hansa-mesh/hansa/node/upstream"
	"github.com/hansa-mesh/hansa/placement"
)

// Config says which peer to run. Zero fields are the documented defaults.
type Config struct {
	DataDir string // required: identity/, db/, blobs/, work/
	Name    string // default: the name that the peer was let in under
	Site    string // default: the site that the peer was let in under
	// Labels of this peer, beside site, region, peer, os and arch. "region"
	// is the site's name unless it is given.
	Labels   map[string]string
	Lat, Lon float64

	Listen    string // UDP address of peers; default ":7600"
	Advertise string // address that other peers dial; default found from Listen
	API       string // TCP address of the admin API, or "none"; default api.AddrDefault
	APIToken  string // demanded of callers; required when API is not loopback
	APICert   string // PEM files; required when API is not loopback
	APIKey    string
	APIHosts  []string // names that a loopback API may be asked under, beside localhost

	Join  []string // addresses of peers, tried in order when this peer is new
	Token string   // an invitation, when this peer is new

	// Capacity is what this peer gives to work; zero fields are found from
	// the machine, less a reserve for the system.
	Capacity placement.Resources
	// GPUs are how many devices of each model it gives, in place of those that are
	// found; their ids are "model-0" and so on.
	GPUs  map[string]int
	Price float64 // per core-hour
	// FreeFloor is the free disk space below which nothing is promised;
	// default as package store documents.
	FreeFloor int64
	// ImagesMax is how many bytes of files by digest (images, modules, programs, disks)
	// this peer keeps beyond what it has to hold; 0 is as much as the disk has room for.
	ImagesMax int64
	// ImagesGrace is for how long such files are kept that nothing needs, after their
	// last use; default 24 hours.
	ImagesGrace time.Duration
	// BackWithin is what this peer announces when it stops: the others leave
	// what runs here where it is for so long, so that a restart moves nothing.
	// 0 announces nothing. Whole seconds.
	BackWithin time.Duration
	// Upstream says which registries outside of the mesh are asked for images that it
	// has not: "all", the default, or "none".
	Upstream string
	// WorkAddress is the IP address that work's ports are opened on; default
	// 127.0.0.1.
	WorkAddress string
	// Bridges are those of this machine that virtual machines may join; none by
	// default.
	Bridges []string
}

// Deps are what a peer is given rather than makes; zero fields are the real
// ones.
type Deps struct {
	Log     *slog.Logger
	Version string
	// Conn is the packet network; nil listens at Config.Listen.
	Conn net.PacketConn
	// Drivers makes the runtimes; nil makes those of this machine.
	Drivers func(dir string, events func(driver.Event), log *slog.Logger) ([]driver.Driver, error)
	// Hosts are what the drivers run work on beside this machine, each with an id of
	// its own. Where one says no architecture or drivers it has this machine's. What
	// was granted on one that is no longer among them is lost.
	Hosts []placement.Host
	// Upstream asks registries outside of the mesh; nil makes one, unless
	// Config.Upstream is "none".
	Upstream *upstream.Registries
	// Trace takes one fixed-width line for each event of the core.
	Trace func(line string)
}

const (
	listenDefault = ":7600"
	apiNone       = "none"
	upstreamAll   = "all"
	upstreamNone  = "none"
	labelsMax     = 64
	backWithinMax = time.Hour
)

// labelName is the form of the names of peers and sites, and of labels;
// labelRule says it to people.
var labelName = regexp.MustCompile(`^[a-z0-9A-Z]([-a-z0-9A-Z_.]{0,61}[a-z0-9A-Z])?$`)

// bridgeName is that of an interface, as manifests have it.
var bridgeName = regexp.MustCompile(`^[A-Za-z0-9][-A-Za-z0-9_.]{0,14}$`)

const labelRule = "use letters, digits, '-', '_' and '.', at most 63"

// withDefaults returns a copy with the zero fields filled in.
func (c Config) withDefaults() Config {
	if c.Listen == "" {
		c.Listen = listenDefault
	}
	if c.API == "" {
		c.API = api.AddrDefault
	}
	if c.Upstream == "" {
		c.Upstream = upstreamAll
	}
	if c.ImagesGrace == 0 {
		c.ImagesGrace = graceDefault
	}
	if c.WorkAddress == "" {
		c.WorkAddress = "127.0.0.1"
	}
	return c
}

// Validate says what is wrong with c, naming the flag.
func (c Config) Validate() error {
	var errs []error
	if c.DataDir == "" {
		errs = append(errs, errors.New("--data-dir is empty: name a folder for this peer's state"))
	}
	for flag, name := range map[string]string{"--name": c.Name, "--site": c.Site} {
		if name != "" && !labelName.MatchString(name) {
			errs = append(errs, fmt.Errorf("%s %q: %s", flag, name, labelRule))
		}
	}
	if len(c.Labels) > labelsMax {
		errs = append(errs, fmt.Errorf("--labels: %d labels, at most %d", len(c.Labels), labelsMax))
	}
	for k, v := range c.Labels {
		if !labelName.MatchString(k) || (v != "" && !labelName.MatchString(v)) {
			errs = append(errs, fmt.Errorf("--labels %s=%s: in names and values %s", k, v, labelRule))
		}
	}
	if c.Upstream != "" && c.Upstream != upstreamAll && c.Upstream != upstreamNone {
		errs = append(errs, fmt.Errorf("--upstream %q: write %q or %q", c.Upstream, upstreamAll, upstreamNone))
	}
	if c.Lat < -90 || c.Lat > 90 || c.Lon < -180 || c.Lon > 180 {
		errs = append(errs, fmt.Errorf("--position %v,%v: latitude is -90 to 90, longitude -180 to 180", c.Lat, c.Lon))
	}
	if c.Capacity.CPU < 0 || c.Capacity.Memory < 0 || c.Capacity.Disk < 0 {
		errs = append(errs, errors.New("--capacity: none can be negative"))
	}
	if _, err := gpu.Named(c.GPUs); err != nil {
		errs = append(errs, fmt.Errorf("--gpus %w", err))
	}
	if _, err := netip.ParseAddr(c.WorkAddress); c.WorkAddress != "" && err != nil {
		errs = append(errs, fmt.Errorf("--work-address %q: want an IP address of this machine, for instance 127.0.0.1", c.WorkAddress))
	}
	for _, name := range c.Bridges {
		if !bridgeName.MatchString(name) {
			errs = append(errs, fmt.Errorf("--bridges %q: want the name of a bridge of this machine, for instance br0", name))
		}
	}
	if c.ImagesMax < 0 || c.ImagesGrace < 0 {
		errs = append(errs, fmt.Errorf("--images-max %d, --images-grace %v: neither can be negative", c.ImagesMax, c.ImagesGrace))
	}
	if c.BackWithin < 0 || c.BackWithin > backWithinMax {
		errs = append(errs, fmt.Errorf("--back-within %v: 0 to %v", c.BackWithin, backWithinMax))
	}
	return errors.Join(errs...)
}
