package cli

import (
	"context"
	"io"
	"log/slog"
	"time"

	"github.com/hansa-mesh/hansa/node/api"
	"github.com/hansa-mesh/hansa/placement"
)

// Runners are what the verbs need that are not the API's client. A nil one
// leaves its verb out.
type Runners struct {
	// Agent runs a peer until ctx is done; nil is a graceful end.
	Agent func(ctx context.Context, cfg AgentConfig) error
	// Init makes a mesh: its root and the first peer's data folder.
	Init func(ctx context.Context, cfg InitConfig) (InitResult, error)
	// Join enters a mesh: it redeems a token and prepares the data folder.
	Join func(ctx context.Context, cfg JoinConfig) (JoinResult, error)
	// Dev runs a throw-away mesh until ctx is done. It calls cfg.Ready once,
	// when every peer answers.
	Dev func(ctx context.Context, cfg DevConfig) error
	// DevControl asks a running dev mesh for a fault and returns what was
	// done, in words.
	DevControl func(ctx context.Context, cmd DevCommand) (string, error)
	// Backup writes a backup of a data folder whose daemon does not run.
	Backup func(ctx context.Context, cfg BackupConfig, w io.Writer) error
	// CheckBackup reads a backup through: without an error it is whole.
	CheckBackup func(r io.Reader) (BackupInfo, error)
	// Restore makes the store of a data folder from a backup.
	Restore func(ctx context.Context, cfg RestoreConfig, backup io.ReadSeeker) (RestoreResult, error)
	Version api.VersionInfo
}

// Streams are the command's input and output.
type Streams struct {
	In       io.Reader
	Out, Err io.Writer
}

// AgentConfig is what a peer runs with: flags over environment over the
// configuration file over defaults.
type AgentConfig struct {
	DataDir   string
	Name      string // "" is the host's name when the folder has none yet
	Site      string
	Labels    map[string]string
	Position  *api.Position
	Listen    string // QUIC, over UDP
	Advertise string // host:port that others reach it at; "" is found out
	API       APIConfig
	// Capacity is what the peer gives to work; zero fields are found from the
	// machine.
	Capacity    placement.Resources
	GPUs        map[string]int  // by model; none is what the machine has
	Price       float64         // per core-hour
	WorkAddress string          // IP address that work's ports are opened on; "" is loopback
	Bridges     []string        // that virtual machines may join
	ImagesMax   placement.Bytes // of files by digest beyond what has to be here; 0 is what the disk takes
	Upstream    string          // registries that are asked for images: "all" or "none"
	ImagesGrace time.Duration   // for which such files are kept that nothing needs
	BackWithin  time.Duration
	Join        []string // addresses of peers to join; needed with Token
	Token       string   // of an invitation; "" when the peer is admitted already
	LogLevel    slog.Level
	LogFormat   string // "text" or "json"
	LogTo       io.Writer
}

// APIConfig is how a peer serves its admin API.
type APIConfig struct {
	Addr         string
	Token        string
	CertFile     string
	KeyFile      string
	AllowedHosts []string
}

// InitConfig makes a mesh.
type InitConfig struct {
	DataDir string
	Name    string
	Site    string
	RootDir string // where the root's key goes; "" is "root" in DataDir
}

// InitResult says what was made.
type InitResult struct {
	Peer    api.PeerRef `json:"peer"`
	Root    string      `json:"root"`     // fingerprint
	RootKey string      `json:"root_key"` // file
	DataDir string      `json:"data_dir"`
}

// JoinConfig enters a mesh.
type JoinConfig struct {
	DataDir string
	Name    string // must be the invitation's; "" takes it from there
	Site    string
	Join    []string
	Token   string
}

// JoinResult says which mesh was entered.
type JoinResult struct {
	Peer    api.PeerRef `json:"peer"`
	Root    string      `json:"root"`
	DataDir string      `json:"data_dir"`
}

// DevConfig is a throw-away mesh in one process.
type DevConfig struct {
	Sites   int
	RTT     time.Duration // between neighbouring sites
	Dir     string        // "" is a temporary folder that is removed at the end
	Port    int           // of the first peer's admin API, the others follow; 0 picks free ones
	Socket  string        // unix socket for DevControl
	Log     *slog.Logger
	Workers io.Writer         // output of the sites' processes, if there are any
	Ready   func(p []DevPeer) // called once, when every peer answers
}

// DevPeer is one peer of a dev mesh.
type DevPeer struct {
	Peer string `json:"peer"` // name
	Site string `json:"site"`
	API  string `json:"api"` // URL
}

// DevCommand asks a dev mesh for a fault.
type DevCommand struct {
	Socket string
	Verb   string // "partition", "heal", "kill", "restart"
	Sites  []string
}

// BackupConfig says what to back up without a daemon.
type BackupConfig struct {
	DataDir string
	WithKey bool // the peer's key and membership too
}

// BackupInfo says what a backup is of.
type BackupInfo struct {
	Mesh        string    `json:"mesh"`        // fingerprint of its root
	Incarnation uint64    `json:"incarnation"` // of the store
	At          time.Time `json:"at"`
	Records     int       `json:"records"`
}

// RestoreConfig says where to restore to.
type RestoreConfig struct {
	DataDir  string
	PutAside bool // a store that is there
}

// RestoreResult says what was restored.
type RestoreResult struct {
	Peer     api.PeerRef `json:"peer"`
	Mesh     string      `json:"mesh"`
	At       time.Time   `json:"at"` // of the backup
	Records  int         `json:"records"`
	Identity bool        `json:"identity"` // the peer's key came from the backup
	DataDir  string      `json:"data_dir"`
}
