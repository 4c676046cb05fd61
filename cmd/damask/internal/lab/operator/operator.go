// Package operator reaches the Damask processes of a lab as an operator does.
//
// It owns gRPC connections that are made from inside the lab's control host, and
// the few calls that building a lab needs. It promises that a connection never
// leaves the lab. It must not decide anything: it asks the services.
package operator

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"github.com/damask-sdn/damask/cmd/damask/internal/lab/enter"
	"github.com/damask-sdn/damask/internal/identity"
	"github.com/damask-sdn/damask/internal/rpcdial"
	"github.com/damask-sdn/damask/internal/rpcerr"
	accessv1 "github.com/damask-sdn/damask/proto/damask/access/v1"
	ipamv1 "github.com/damask-sdn/damask/proto/damask/ipam/v1"
	nodev1 "github.com/damask-sdn/damask/proto/damask/node/v1"
	tenancyv1 "github.com/damask-sdn/damask/proto/damask/tenancy/v1"
)

// Dialer returns a function that opens connections from inside the network
// namespace at the path. Addresses must be numbers: names are not looked up there.
func Dialer(path string) func(ctx context.Context, address string) (net.Conn, error) {
	return func(ctx context.Context, address string) (net.Conn, error) {
		var conn net.Conn
		// The socket is made by the thread that calls, and stays where it was made.
		err := enter.Do(enter.Namespaces{Net: path}, func() error {
			var err error
			conn, err = (&net.Dialer{}).DialContext(ctx, "tcp", address)
			return err
		})
		return conn, err
	}
}

// Operator holds the connections.
type Operator struct {
	source *identity.Source
	dial   func(ctx context.Context, address string) (net.Conn, error)
	opened []*grpc.ClientConn

	ipam, tenancy, servicelb, egress *grpc.ClientConn
}

// Services are the addresses of the services' replicas.
type Services struct {
	// IPAM, Tenancy, ServiceLB and Egress are each service's, "HOST:PORT".
	IPAM, Tenancy, ServiceLB, Egress []string
}

// New prepares connections to the services from inside the network namespace at
// the path. Nothing is connected before the first call.
func New(source *identity.Source, path string, services Services) (*Operator, error) {
	o := &Operator{source: source, dial: Dialer(path)}
	for _, s := range []struct {
		conn      **grpc.ClientConn
		addresses []string
		role      accessv1.Role
	}{
		{&o.ipam, services.IPAM, accessv1.Role_ROLE_IPAM},
		{&o.tenancy, services.Tenancy, accessv1.Role_ROLE_TENANCY},
		{&o.servicelb, services.ServiceLB, accessv1.Role_ROLE_SERVICELB},
		{&o.egress, services.Egress, accessv1.Role_ROLE_EGRESS},
	} {
		conn, err := o.connect(s.addresses, s.role)
		if err != nil {
			return nil, errors.Join(err, o.Close())
		}
		*s.conn = conn
		o.opened = append(o.opened, conn)
	}
	return o, nil
}

// Close closes the connections.
func (o *Operator) Close() error {
	var all error
	for _, conn := range o.opened {
		all = errors.Join(all, conn.Close())
	}
	return all
}

func (o *Operator) connect(addresses []string, role accessv1.Role) (*grpc.ClientConn, error) {
	return rpcdial.New(rpcdial.Config{Addresses: addresses, Roles: []accessv1.Role{role}, Dial: o.dial}, o.source)
}

// AwaitServing returns when the replica of a service at the address says that it is
// SERVING.
func (o *Operator) AwaitServing(ctx context.Context, address string, role accessv1.Role) error {
	conn, err := o.connect([]string{address}, role)
	if err != nil {
		return err
	}
	defer conn.Close()
	// WaitForReady of a connection that balances by health waits for just this.
	_, err = healthv1.NewHealthClient(conn).Check(ctx, &healthv1.HealthCheckRequest{}, grpc.WaitForReady(true))
	return err
}

// CreateClusterNetwork stores the address plan.
func (o *Operator) CreateClusterNetwork(ctx context.Context, plan *ipamv1.ClusterNetwork) error {
	_, err := ipamv1.NewClusterNetworkServiceClient(o.ipam).CreateClusterNetwork(ctx, &ipamv1.CreateClusterNetworkRequest{ClusterNetwork: plan})
	return worded(err)
}

// SetIsolation sets the isolation mode.
func (o *Operator) SetIsolation(ctx context.Context, mode tenancyv1.IsolationMode) error {
	_, err := tenancyv1.NewIsolationServiceClient(o.tenancy).SetIsolation(ctx, &tenancyv1.SetIsolationRequest{Mode: mode})
	return worded(err)
}

// CreateNamespace creates a NetNamespace.
func (o *Operator) CreateNamespace(ctx context.Context, name string, vnid *uint32, labels map[string]string) error {
	_, err := tenancyv1.NewNetNamespaceServiceClient(o.tenancy).CreateNetNamespace(ctx,
		&tenancyv1.CreateNetNamespaceRequest{Name: name, Netid: vnid, Labels: labels})
	return worded(err)
}

// EnableMulticast lets the pods of a namespace send and receive multicast.
func (o *Operator) EnableMulticast(ctx context.Context, name string) error {
	_, err := tenancyv1.NewNetNamespaceServiceClient(o.tenancy).SetNetNamespaceMulticast(ctx,
		&tenancyv1.SetNetNamespaceMulticastRequest{Name: name, Enabled: true})
	return worded(err)
}

// AllowEgressRouters says which addresses egress routers of a namespace may have.
func (o *Operator) AllowEgressRouters(ctx context.Context, name string, sources []string) error {
	_, err := tenancyv1.NewNetNamespaceServiceClient(o.tenancy).SetNetNamespaceEgressRouters(ctx,
		&tenancyv1.SetNetNamespaceEgressRoutersRequest{Name: name, Sources: sources})
	return worded(err)
}

// ApplyPolicy stores a network policy, and answers its revision.
func (o *Operator) ApplyPolicy(ctx context.Context, manifest string) (uint64, error) {
	answer, err := tenancyv1.NewNetworkPolicyServiceClient(o.tenancy).ApplyNetworkPolicy(ctx, &tenancyv1.ApplyNetworkPolicyRequest{Manifest: manifest})
	return answer.GetNetworkPolicy().GetRevision(), worded(err)
}

// AwaitResolved returns when all that follows from a change is stored.
func (o *Operator) AwaitResolved(ctx context.Context, revision uint64) error {
	_, err := tenancyv1.NewNetworkPolicyServiceClient(o.tenancy).WaitResolved(ctx, &tenancyv1.WaitResolvedRequest{Revision: revision})
	return worded(err)
}

// EnsureNamespace answers the VNID of a namespace, which it creates when there is
// none.
func (o *Operator) EnsureNamespace(ctx context.Context, name string) (vnid uint32, created bool, err error) {
	client := tenancyv1.NewNetNamespaceServiceClient(o.tenancy)
	found, err := client.GetNetNamespace(ctx, &tenancyv1.GetNetNamespaceRequest{Name: name})
	if err == nil {
		return found.GetNetNamespace().GetNetid(), false, nil
	}
	if status.Code(err) != codes.NotFound {
		return 0, false, worded(err)
	}
	answer, err := client.CreateNetNamespace(ctx, &tenancyv1.CreateNetNamespaceRequest{Name: name})
	return answer.GetNetNamespace().GetNetid(), err == nil, worded(err)
}

// ExpectNode registers a node before its agent does.
func (o *Operator) ExpectNode(ctx context.Context, node *ipamv1.AllocateHostSubnetRequest) error {
	_, err := ipamv1.NewHostSubnetServiceClient(o.ipam).AllocateHostSubnet(ctx, node)
	return worded(err)
}

// HostSubnets answers all nodes that are registered, by name.
func (o *Operator) HostSubnets(ctx context.Context) (map[string]*ipamv1.HostSubnet, error) {
	client := ipamv1.NewHostSubnetServiceClient(o.ipam)
	subnets := map[string]*ipamv1.HostSubnet{}
	for token := ""; ; {
		page, err := client.ListHostSubnets(ctx, &ipamv1.ListHostSubnetsRequest{PageToken: token})
		if err != nil {
			return nil, worded(err)
		}
		for _, subnet := range page.GetHostSubnets() {
			subnets[subnet.GetName()] = subnet
		}
		if token = page.GetNextPageToken(); token == "" {
			return subnets, nil
		}
	}
}

// minPause is the first pause between two looks at what cannot be waited for, and
// the shortest.
const minPause = 30 * time.Millisecond

// AwaitRegistered returns when the node with that identity has its HostSubnet.
func (o *Operator) AwaitRegistered(ctx context.Context, node, uid string) error {
	client := ipamv1.NewHostSubnetServiceClient(o.ipam)
	missing := "nobody has seen it"
	for begin := time.Now(); ; {
		answer, err := client.GetHostSubnet(ctx, &ipamv1.GetHostSubnetRequest{Node: node})
		switch status.Code(err) {
		case codes.OK:
			if answer.GetHostSubnet().GetNodeUid() == uid {
				return nil
			}
			missing = "it is another machine's"
		case codes.NotFound:
		case codes.Unavailable, codes.DeadlineExceeded: // all agents start at once, and a busy store makes others wait
			missing = worded(err).Error()
		default:
			return worded(err)
		}
		if err := pause(ctx, begin); err != nil {
			return fmt.Errorf("node %s is not registered: %s: %w", node, missing, err)
		}
	}
}

// AwaitClusterNetwork returns when ipam has an address plan.
func (o *Operator) AwaitClusterNetwork(ctx context.Context) error {
	client := ipamv1.NewClusterNetworkServiceClient(o.ipam)
	return awaitFound(ctx, func() error {
		_, err := client.GetClusterNetwork(ctx, &ipamv1.GetClusterNetworkRequest{})
		return err
	})
}

// AwaitHostSubnet returns a node's HostSubnet when there is one, also when its agent has
// never registered.
func (o *Operator) AwaitHostSubnet(ctx context.Context, node string) (*ipamv1.HostSubnet, error) {
	client := ipamv1.NewHostSubnetServiceClient(o.ipam)
	var subnet *ipamv1.HostSubnet
	err := awaitFound(ctx, func() error {
		answer, err := client.GetHostSubnet(ctx, &ipamv1.GetHostSubnetRequest{Node: node})
		subnet = answer.GetHostSubnet()
		return err
	})
	return subnet, err
}

// awaitFound asks until what is asked for is there.
func awaitFound(ctx context.Context, ask func() error) error {
	for begin := time.Now(); ; {
		err := ask()
		if code := status.Code(err); code != codes.NotFound && code != codes.Unavailable && code != codes.DeadlineExceeded {
			return worded(err)
		}
		if ended := pause(ctx, begin); ended != nil {
			return fmt.Errorf("%w: %w", worded(err), ended)
		}
	}
}

// AwaitAgent returns when the node agent at the address says that it is ready. Its
// error says what the agent misses.
func (o *Operator) AwaitAgent(ctx context.Context, address string) error {
	conn, err := o.connect([]string{address}, accessv1.Role_ROLE_NODE)
	if err != nil {
		return err
	}
	defer conn.Close()
	client := nodev1.NewNodeServiceClient(conn)
	missing := "it does not answer"
	for begin := time.Now(); ; {
		answer, err := client.GetNodeStatus(ctx, &nodev1.GetNodeStatusRequest{})
		switch {
		case err == nil && answer.GetStatus().GetReady():
			return nil
		case err == nil:
			missing = answer.GetStatus().GetNotReadyReason()
		case !slices.Contains([]codes.Code{codes.Unavailable, codes.DeadlineExceeded, codes.Canceled}, status.Code(err)):
			return worded(err)
		}
		if err := pause(ctx, begin); err != nil {
			return fmt.Errorf("the agent is not ready: %s: %w", missing, err)
		}
	}
}

// refusal is a service's error in the service's own words alone.
type refusal struct{ cause error }

func (r refusal) Error() string { return rpcerr.Message(r.cause) }
func (r refusal) Unwrap() error { return r.cause }

func worded(err error) error {
	if err == nil {
		return nil
	}
	return refusal{err}
}

// pause waits for a tenth of the time since begin: a slow machine, which needs all
// its strength for what is waited for, is asked as often as a quick one.
func pause(ctx context.Context, begin time.Time) error {
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(max(minPause, time.Since(begin)/10)):
		return nil
	}
}
