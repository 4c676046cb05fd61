package natsd

import (
	"net"
	"net/url"
	"slices"

	"github.com/damask-sdn/damask/internal/configfile"
)

// How a server writes its store.
const (
	// SyncAlways has every commit on disk before it is acknowledged. This is
	// the default: an allocation that was answered must never be given to
	// another, also when the machine loses power. It costs one disk sync a
	// commit, which at the rate of a control plane is not felt.
	SyncAlways = "always"
	// SyncPeriodic writes to disk every ten seconds. It still survives a killed
	// process. It is for buckets with replicas on machines that do not lose
	// power together.
	SyncPeriodic = "periodic"
)

// Config is the "nats" block of a control service's configuration.
type Config struct {
	// Servers are the addresses of the NATS servers, "tls://HOST:PORT". Empty:
	// the service runs one itself, see Embedded.
	Servers []string `yaml:"servers"`
	// Replicas is how many servers keep the service's bucket, 1, 3 or 5; at
	// most as many as there are. Default 1.
	Replicas int `yaml:"replicas"`
	// Embedded is the server that runs inside the service when Servers is
	// empty.
	Embedded Embedded `yaml:"embedded"`
}

// Embedded is a server inside a service. Other services and the agents name its
// address in their lists of servers.
type Embedded struct {
	// StoreDir is the directory of the state. Required if servers is empty.
	StoreDir string `yaml:"storeDir"`
	// Listen is the address for clients, "HOST:PORT". Default 127.0.0.1:4222.
	Listen string `yaml:"listen"`
	// Sync is "always" (default) or "periodic": see SyncAlways.
	Sync string `yaml:"sync"`
}

// DefaultListen is where an embedded server listens.
const DefaultListen = "127.0.0.1:4222"

// Check adds to a configuration's report.
func (c Config) Check(r *configfile.Report) {
	CheckServers(r, "servers", c.Servers)
	if c.Replicas != 0 && !slices.Contains([]int{1, 3, 5}, c.Replicas) {
		r.Addf("replicas", "%d is not 1, 3 or 5", c.Replicas)
	}
	if len(c.Servers) > 0 {
		return
	}
	if c.Replicas > 1 {
		r.Addf("replicas", "%d needs a cluster of servers, but servers is empty", c.Replicas)
	}
	in := r.In("embedded")
	in.Required("storeDir", c.Embedded.StoreDir)
	if c.Embedded.Listen != "" {
		in.HostPort("listen", c.Embedded.Listen)
	}
	checkSync(in, c.Embedded.Sync)
}

// CheckServers adds to a configuration's report what is wrong with a list of
// server addresses.
func CheckServers(r *configfile.Report, path string, servers []string) {
	for _, s := range servers {
		u, err := url.Parse(s)
		if err != nil || u.Scheme != "tls" || u.Port() == "" || u.Hostname() == "" || u.Path != "" || u.User != nil {
			r.Addf(path, "%q is not of the form tls://HOST:PORT", s)
		}
	}
}

// ServerConfig says how a server runs.
type ServerConfig struct {
	// Name of the server, unique in its cluster and the same after a restart.
	// Default: drawn once, and kept in the store directory.
	Name string `yaml:"name"`
	// StoreDir is the directory of the state, for this server alone. Required.
	StoreDir string `yaml:"storeDir"`
	// Sync is "always" (default) or "periodic": see SyncAlways.
	Sync string `yaml:"sync"`
	// Listen is the address for clients, "HOST:PORT". Required.
	Listen string `yaml:"listen"`
	// Cluster joins the server with others. Default: it is alone.
	Cluster Cluster `yaml:"cluster"`
}

// Cluster says how servers find one another.
type Cluster struct {
	// Name of the cluster, the same on all its servers. Empty: no cluster.
	Name string `yaml:"name"`
	// Listen is the address for the other servers, "HOST:PORT". Required in a
	// cluster.
	Listen string `yaml:"listen"`
	// Routes are the other servers' cluster addresses, "HOST:PORT"; naming all
	// of them, this one too, is fine.
	Routes []string `yaml:"routes"`
}

// Check adds to a configuration's report.
func (c ServerConfig) Check(r *configfile.Report) {
	r.Required("storeDir", c.StoreDir)
	r.HostPort("listen", c.Listen)
	checkSync(r, c.Sync)
	in := r.In("cluster")
	if c.Cluster.Name == "" {
		if c.Cluster.Listen != "" || len(c.Cluster.Routes) > 0 {
			in.Addf("name", "is required when the cluster has a listen address or routes")
		}
		return
	}
	in.HostPort("listen", c.Cluster.Listen)
	for _, route := range c.Cluster.Routes {
		if _, port, err := net.SplitHostPort(route); err != nil || port == "" {
			in.Addf("routes", "%q is not of the form HOST:PORT", route)
		}
	}
}

func checkSync(r *configfile.Report, sync string) {
	if sync != "" && sync != SyncAlways && sync != SyncPeriodic {
		r.Addf("sync", "%q is not %q or %q", sync, SyncAlways, SyncPeriodic)
	}
}

// listens answers every address that the server is to listen on.
func (c ServerConfig) listens() []string {
	if c.Cluster.Name == "" {
		return []string{c.Listen}
	}
	return []string{c.Listen, c.Cluster.Listen}
}
