package kube

import (
	"fmt"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/transport"

	"github.com/damask-sdn/damask/internal/configfile"
)

// Config is the section "kubernetes" of a service's configuration.
type Config struct {
	// Enabled has the service follow a Kubernetes cluster's objects. Default: false,
	// and nothing else here counts.
	Enabled bool `yaml:"enabled"`
	// Kubeconfig is the file that says where the API server is and as whom to speak to
	// it. Empty: as the service account of the pod that the service runs in.
	Kubeconfig string `yaml:"kubeconfig"`
	// Cluster is the UID of the namespace kube-system of the cluster that the store
	// belongs to from now on. Empty: the one that it was used with first. It is set to
	// bring a store to a cluster whose etcd was lost.
	Cluster string `yaml:"cluster"`
	// QPS and Burst bound the requests to the API server, a second and at once; watching
	// does not count. Default: 50 and 100.
	QPS   float64 `yaml:"qps"`
	Burst int     `yaml:"burst"`
}

// Defaults of Config.
const (
	defaultQPS   = 50
	defaultBurst = 100
)

// Check says what is wrong with the section.
func (c *Config) Check(r *configfile.Report) {
	if c.QPS < 0 {
		r.Addf("qps", "%v is negative", c.QPS)
	}
	if c.Burst < 0 {
		r.Addf("burst", "%d is negative", c.Burst)
	}
	if !c.Enabled && c.Kubeconfig != "" {
		r.Addf("kubeconfig", "is given, and enabled is not")
	}
	if !c.Enabled && c.Cluster != "" {
		r.Addf("cluster", "is given, and enabled is not")
	}
}

// rest answers how to speak to the API server.
func (c *Config) rest(service string) (*rest.Config, error) {
	var cfg *rest.Config
	var err error
	if c.Kubeconfig == "" {
		cfg, err = rest.InClusterConfig()
	} else {
		cfg, err = clientcmd.BuildConfigFromFlags("", c.Kubeconfig)
	}
	if err != nil {
		return nil, fmt.Errorf("configure the Kubernetes client: %w", err)
	}
	if file := cfg.BearerTokenFile; file != "" {
		// A token that is not accepted is read again at once, and not within a minute.
		cfg.Wrap(transport.ResettableTokenSourceWrapTransport(transport.NewCachedFileTokenSource(file)))
		cfg.BearerToken, cfg.BearerTokenFile = "", ""
	}
	cfg.UserAgent = "damask-" + service
	cfg.QPS, cfg.Burst = defaultQPS, defaultBurst
	if c.QPS > 0 {
		cfg.QPS = float32(c.QPS)
	}
	if c.Burst > 0 {
		cfg.Burst = c.Burst
	}
	return cfg, nil
}
