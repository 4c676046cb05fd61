// Command churn fills a cluster with Services and changes their endpoints at a
// steady rate, as a busy cluster does, and reports in JSON how long a node took
// to have each change in force. It speaks to servicelb and to one node's agent
// as an operator. It owns no judgement: the test that starts it has the limits.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
	"golang.org/x/sync/errgroup"

	"github.com/damask-sdn/damask/internal/identity"
	"github.com/damask-sdn/damask/internal/rpcdial"
	accessv1 "github.com/damask-sdn/damask/proto/damask/access/v1"
	nodev1 "github.com/damask-sdn/damask/proto/damask/node/v1"
	servicelbv1 "github.com/damask-sdn/damask/proto/damask/servicelb/v1"
)

// namespace holds all of churn's services.
const namespace = "churn"

// endpoints each service has.
const endpoints = 3

func main() {
	var c churn
	servers := flag.String("servicelb", "", "servicelb's replicas, HOST:PORT,...")
	agent := flag.String("agent", "", "the agent that is asked when a change is in force, HOST:PORT")
	certificates := flag.String("certificates", "", "directory of an operator's tls.crt, tls.key and ca.crt")
	trustDomain := flag.String("trust-domain", identity.DefaultTrustDomain, "of the certificates")
	flag.IntVar(&c.services, "services", 10000, "how many services there are")
	flag.IntVar(&c.rate, "rate", 100, "changes a second")
	flag.DurationVar(&c.during, "for", time.Minute, "how long changes go on")
	flag.Parse()
	if err := c.connect(strings.Split(*servers, ","), *agent, *certificates, *trustDomain); err != nil {
		fmt.Fprintln(os.Stderr, "churn:", err)
		os.Exit(1)
	}
	if err := c.run(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, "churn:", err)
		os.Exit(1)
	}
}

// churn is one run.
type churn struct {
	services, rate int
	during         time.Duration

	makes  servicelbv1.ServiceServiceClient
	slices servicelbv1.EndpointSliceServiceClient
	agent  nodev1.NodeServiceClient

	mu  sync.Mutex
	lag [3][]time.Duration // of each third of the time
}

// result is what churn prints.
type result struct {
	// FillMS is how long it took until all services were in force on the node.
	FillMS int64 `json:"fill_ms"`
	// Changes is how many were made, in TookMS.
	Changes int   `json:"changes"`
	TookMS  int64 `json:"took_ms"`
	// Lag is from servicelb's answer to the change being in force on the node, in each
	// third of the time: a node that falls behind has it grow.
	Lag [3]lag `json:"lag"`
}

// lag is in milliseconds.
type lag struct {
	P50 float64 `json:"p50_ms"`
	P99 float64 `json:"p99_ms"`
	Max float64 `json:"max_ms"`
}

func (c *churn) connect(servers []string, agent, certificates, trustDomain string) error {
	source, err := identity.NewSource(identity.Files{
		Certificate: filepath.Join(certificates, "tls.crt"), Key: filepath.Join(certificates, "tls.key"),
		CA: filepath.Join(certificates, "ca.crt"), TrustDomain: trustDomain,
	}, hclog.NewNullLogger())
	if err != nil {
		return err
	}
	lb, err := rpcdial.New(rpcdial.Config{Addresses: servers, Roles: []accessv1.Role{accessv1.Role_ROLE_SERVICELB}}, source)
	if err != nil {
		return err
	}
	node, err := rpcdial.New(rpcdial.Config{Addresses: []string{agent}, Roles: []accessv1.Role{accessv1.Role_ROLE_NODE}}, source)
	if err != nil {
		return err
	}
	c.makes = servicelbv1.NewServiceServiceClient(lb)
	c.slices = servicelbv1.NewEndpointSliceServiceClient(lb)
	c.agent = nodev1.NewNodeServiceClient(node)
	return nil
}

func (c *churn) run(ctx context.Context) error {
	var r result
	begin := time.Now()
	if err := c.fill(ctx); err != nil {
		return err
	}
	r.FillMS = time.Since(begin).Milliseconds()
	begin = time.Now()
	fmt.Fprintln(os.Stderr, "filled") // the test looks at the node from here on
	if err := c.change(ctx); err != nil {
		return err
	}
	r.TookMS, r.Changes = time.Since(begin).Milliseconds(), c.changes()
	for third, all := range c.lag {
		slices.Sort(all)
		at := func(percent int) float64 { return float64(all[(len(all)-1)*percent/100].Microseconds()) / 1000 }
		r.Lag[third] = lag{at(50), at(99), at(100)}
	}
	return json.NewEncoder(os.Stdout).Encode(r)
}

// fill makes all services with their endpoints and waits until the node has them.
func (c *churn) fill(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	const atOnce = 16
	group.SetLimit(atOnce)
	for i := range c.services {
		group.Go(func() error {
			_, err := c.makes.CreateService(ctx, &servicelbv1.CreateServiceRequest{Service: &servicelbv1.Service{
				Namespace: namespace, Name: name(i), Type: servicelbv1.ServiceType_SERVICE_TYPE_CLUSTER_IP,
				Ports: []*servicelbv1.ServicePort{{Name: "http", Protocol: servicelbv1.Protocol_PROTOCOL_TCP, Port: 80, TargetPort: "8080"}},
			}})
			if err != nil {
				return fmt.Errorf("create service %s: %w", name(i), err)
			}
			slice, err := c.put(ctx, i, 0)
			if err != nil {
				return err
			}
			return c.inForce(ctx, slice)
		})
	}
	return group.Wait()
}

// change replaces an endpoint of one service after another, at the rate, whether or
// not the node keeps up. Every tenth change is timed.
func (c *churn) change(ctx context.Context) error {
	const timed, atOnce = 10, 64
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(atOnce)
	tick := time.NewTicker(time.Second / time.Duration(c.rate))
	defer tick.Stop()
	for k := range c.changes() {
		<-tick.C
		group.Go(func() error {
			slice, err := c.put(ctx, k*7919%c.services, k+1)
			if err != nil || k%timed > 0 {
				return err
			}
			begin := time.Now()
			if err := c.inForce(ctx, slice); err != nil {
				return err
			}
			c.mu.Lock()
			defer c.mu.Unlock()
			c.lag[3*k/c.changes()] = append(c.lag[3*k/c.changes()], time.Since(begin))
			return nil
		})
	}
	return group.Wait()
}

func (c *churn) changes() int { return c.rate * int(c.during/time.Second) }

// put writes service i's endpoints. Another version has another last endpoint.
func (c *churn) put(ctx context.Context, i, version int) (*servicelbv1.EndpointSlice, error) {
	slice := &servicelbv1.EndpointSlice{
		Namespace: namespace, Name: name(i) + "-1", ServiceName: name(i), AddressType: servicelbv1.AddressType_ADDRESS_TYPE_IPV4,
		Ports: []*servicelbv1.EndpointPort{{Name: "http", Protocol: servicelbv1.Protocol_PROTOCOL_TCP, Port: 8080}},
	}
	for e := range endpoints {
		addr := [4]byte{10, byte(129 + e), byte(i >> 8), byte(i)}
		if e == endpoints-1 {
			addr[1] += byte(version % 2)
		}
		slice.Endpoints = append(slice.Endpoints, &servicelbv1.Endpoint{Addresses: []string{netip.AddrFrom4(addr).String()}})
	}
	answer, err := c.slices.PutEndpointSlice(ctx, &servicelbv1.PutEndpointSliceRequest{EndpointSlice: slice})
	if err != nil {
		return nil, fmt.Errorf("put endpoints of %s: %w", name(i), err)
	}
	return answer.GetEndpointSlice(), nil
}

// inForce waits until the node has the slice.
func (c *churn) inForce(ctx context.Context, s *servicelbv1.EndpointSlice) error {
	answer, err := c.agent.WaitProgrammed(ctx, &nodev1.WaitProgrammedRequest{
		Kind: "endpointslice", Name: s.GetNamespace() + "/" + s.GetName(), Revision: s.GetRevision(),
	})
	if err != nil {
		return fmt.Errorf("wait for %s: %w", s.GetName(), err)
	}
	if !answer.GetFollowed() {
		return fmt.Errorf("the node does not follow %s", s.GetName())
	}
	return nil
}

func name(i int) string { return fmt.Sprintf("service-%05d", i) }
