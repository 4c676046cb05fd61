// Package controlplane runs the control services of a lab.
//
// It owns the control host (a network namespace on the underlay with an address a
// replica), and the processes on it: NATS, ipam, tenancy, servicelb and egress, each a real
// process with its own certificate and configuration file. It promises that Start returns
// when what it started serves. It must not know what the services keep.
package controlplane

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/damask-sdn/damask/cmd/damask/internal/lab/enter"
	"github.com/damask-sdn/damask/cmd/damask/internal/lab/operator"
	"github.com/damask-sdn/damask/cmd/damask/internal/lab/process"
	"github.com/damask-sdn/damask/cmd/damask/internal/lab/statedir"
	"github.com/damask-sdn/damask/cmd/damask/internal/lab/topology"
	"github.com/damask-sdn/damask/internal/identity"
	"github.com/damask-sdn/damask/internal/identity/authority"
	accessv1 "github.com/damask-sdn/damask/proto/damask/access/v1"
)

// Host is the name of the control host and of its network namespace.
const Host = "control"

// The ports of the services, as everywhere.
const (
	natsPort      = 4222
	natsRoutePort = 6222
	ipamPort      = 9441
	tenancyPort   = 9442
	servicelbPort = 9443
	egressPort    = 9444
	// metricsOffset is between a service's gRPC port and that of its metrics.
	metricsOffset = 100
	// natsMetricsPort is free beside the services' 954x.
	natsMetricsPort = 9540
)

// lifetime of the lab's certificates. A lab lives for hours.
const lifetime = 90 * 24 * time.Hour

// startTimeout bounds the wait for a service. A NATS cluster elects its leaders in
// seconds; on a loaded machine, after all its servers were killed, in half a minute.
const startTimeout = 90 * time.Second

// Service is one control service.
type Service struct {
	// Name is "nats", "ipam", "tenancy", "servicelb" or "egress".
	Name string
	// Addresses are those of its replicas.
	Addresses []string
	// Replicas are its processes, "NAME-1" and up.
	Replicas []*process.Daemon

	binary  string
	configs []string
	health  []string // addresses of /healthz
	role    accessv1.Role
}

// Plane is the control plane of one lab.
type Plane struct {
	// Services are nats, ipam, tenancy, servicelb and egress, in the order of their start.
	Services []*Service
	// Operator reaches the services.
	Operator *operator.Operator

	reaper *process.Reaper
}

// Config is what a plane is made of.
type Config struct {
	// Dir is the lab's directory.
	Dir statedir.Dir
	// Binaries is the directory of Damask's programs.
	Binaries string
	// Topology says how many replicas there are, and their addresses.
	Topology *topology.Topology
	// Authority issues the certificates.
	Authority *authority.Authority
	// Operator is the identity of the lab itself.
	Operator *identity.Source
	// Kubeconfigs are paths by name, of services that follow an API server's objects too.
	Kubeconfigs map[string]string
}

// New writes configurations and certificates; nothing runs yet.
func New(config Config, reaper *process.Reaper) (*Plane, error) {
	replicas := config.Topology.Replicas
	p := &Plane{reaper: reaper}
	for _, s := range []struct {
		name   string
		count  int
		port   int
		health int
		write  func(config Config, p *Plane, replica int, identity identity.Files) string
	}{
		{"nats", replicas.NATS, natsPort, natsMetricsPort, natsConfig},
		{"ipam", replicas.IPAM, ipamPort, ipamPort + metricsOffset, ipamConfig},
		{"tenancy", replicas.Tenancy, tenancyPort, tenancyPort + metricsOffset, tenancyConfig},
		{"servicelb", replicas.ServiceLB, servicelbPort, servicelbPort + metricsOffset, servicelbConfig},
		{"egress", replicas.Egress, egressPort, egressPort + metricsOffset, egressConfig},
	} {
		id, err := identity.Service(s.name)
		if err != nil {
			return nil, err
		}
		files, err := config.Authority.IssueFiles(config.Dir.Identity("service-"+s.name), id, lifetime)
		if err != nil {
			return nil, err
		}
		service := &Service{Name: s.name, binary: filepath.Join(config.Binaries, "damask-"+s.name), role: id.Role}
		p.Services = append(p.Services, service)
		for i := range s.count {
			name := fmt.Sprintf("%s-%d", s.name, i+1)
			service.Addresses = append(service.Addresses, address(config.Topology.Control[i], s.port))
			service.health = append(service.health, address(config.Topology.Control[i], s.health))
			service.Replicas = append(service.Replicas, process.NewDaemon(reaper, name, config.Dir.Log(name)))
			path := config.Dir.Path("config", name+".yaml")
			if err := writeFile(path, s.write(config, p, i, files)); err != nil {
				return nil, err
			}
			service.configs = append(service.configs, path)
		}
	}
	var err error
	p.Operator, err = operator.New(config.Operator, enter.NetPath(Host), operator.Services{
		IPAM: p.Service("ipam").Addresses, Tenancy: p.Service("tenancy").Addresses, ServiceLB: p.Service("servicelb").Addresses,
		Egress: p.Service("egress").Addresses,
	})
	return p, err
}

// Service is the service of that name, nil when there is none.
func (p *Plane) Service(name string) *Service {
	for _, s := range p.Services {
		if s.Name == name {
			return s
		}
	}
	return nil
}

// NATSURLs are the addresses of the NATS servers as clients write them.
func (p *Plane) NATSURLs() []string {
	var urls []string
	for _, a := range p.Service("nats").Addresses {
		urls = append(urls, "tls://"+a)
	}
	return urls
}

// Start starts those replicas of the service that do not run, and returns their
// names when they serve. Only the replica with that name when it is not empty.
func (p *Plane) Start(ctx context.Context, s *Service, replica string) ([]string, error) {
	var started []int
	var names []string
	for i, daemon := range s.Replicas {
		if replica != "" && replica != daemon.Name || daemon.Running() {
			continue
		}
		cmd := exec.Command(s.binary, "-config", s.configs[i])
		if err := daemon.Start(enter.Namespaces{Net: enter.NetPath(Host)}, cmd); err != nil {
			return names, err
		}
		started, names = append(started, i), append(names, daemon.Name)
	}
	// All are started before the first is waited for: a cluster's servers need one
	// another.
	for _, i := range started {
		if err := p.await(ctx, s, i); err != nil {
			return names, err
		}
	}
	return names, nil
}

func (p *Plane) await(ctx context.Context, s *Service, i int) error {
	daemon := s.Replicas[i]
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	ended := daemon.Ended()
	go func() {
		select {
		case <-ended:
			cancel()
		case <-ctx.Done():
		}
	}()
	var err error
	if s.Name == "nats" {
		err = awaitHealthy(ctx, s.health[i])
	} else {
		err = p.Operator.AwaitServing(ctx, s.Addresses[i], s.role)
	}
	if err == nil {
		return nil
	}
	select {
	case <-ended:
		err = fmt.Errorf("it ended with %s", daemon.Snapshot().Ending)
	default:
		if errors.Is(ctx.Err(), context.DeadlineExceeded) {
			err = fmt.Errorf("it runs, but does not serve after %s", startTimeout)
		}
	}
	return fmt.Errorf("start %s: %w; the end of its log:\n%s", daemon.Name, err, daemon.Tail(10, "  "))
}

// awaitHealthy returns when the daemon whose /healthz is at the address says that
// it is well.
func awaitHealthy(ctx context.Context, address string) error {
	transport := &http.Transport{
		DialContext: func(ctx context.Context, _, address string) (net.Conn, error) {
			return operator.Dialer(enter.NetPath(Host))(ctx, address)
		},
		DisableKeepAlives: true,
	}
	client := &http.Client{Transport: transport, Timeout: healthTimeout}
	for {
		err := healthy(ctx, client, address)
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", ctx.Err(), err)
		case <-time.After(30 * time.Millisecond):
		}
	}
}

// healthTimeout bounds one look at /healthz, which is answered from memory.
const healthTimeout = 2 * time.Second

func healthy(ctx context.Context, client *http.Client, address string) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+"/healthz", nil)
	if err != nil {
		return err
	}
	answer, err := client.Do(request)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return fmt.Errorf("it is not healthy: %s", answer.Status)
	}
	return nil
}

func address(addr netip.Addr, port int) string {
	return net.JoinHostPort(addr.String(), strconv.Itoa(port))
}

func writeFile(path, text string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return os.WriteFile(path, []byte(text), 0o644)
}

// List writes strings as a YAML list in one line.
func List(items []string) string {
	quoted := make([]string, len(items))
	for i, item := range items {
		quoted[i] = strconv.Quote(item)
	}
	return "[" + strings.Join(quoted, ", ") + "]"
}
