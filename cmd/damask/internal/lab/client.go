package lab

import (
	"context"
	"errors"
	"fmt"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/damask-sdn/damask/cmd/damask/internal/cli"
	"github.com/damask-sdn/damask/cmd/damask/internal/lab/operator"
	"github.com/damask-sdn/damask/cmd/damask/internal/lab/preflight"
	"github.com/damask-sdn/damask/cmd/damask/internal/lab/statedir"
	"github.com/damask-sdn/damask/internal/identity"
	"github.com/damask-sdn/damask/internal/identity/authority"
	"github.com/damask-sdn/damask/internal/rpcdial"
	"github.com/damask-sdn/damask/internal/rpcerr"
	labv1 "github.com/damask-sdn/damask/proto/damask/lab/v1"
)

// client talks to the supervisor of one lab.
type client struct {
	labv1.LabServiceClient
	conn *grpc.ClientConn
	name string
}

// connect reaches the lab of that name. Its error is one sentence.
func connect(name string) (*client, error) {
	if err := preflight.Root(); err != nil {
		return nil, err
	}
	dir, err := statedir.Of(name)
	if err != nil {
		return nil, err
	}
	if !dir.Running() {
		if dir.Exists() {
			return nil, fmt.Errorf("lab %q has crashed: `damask lab down --name %s` removes what is left of it", name, name)
		}
		return nil, fmt.Errorf("there is no lab %q: `damask lab up --name %s` starts one", name, name)
	}
	conn, err := rpcdial.Local(dir.Socket())
	if err != nil {
		return nil, err
	}
	return &client{LabServiceClient: labv1.NewLabServiceClient(conn), conn: conn, name: name}, nil
}

func (c *client) close() { _ = c.conn.Close() }

// state asks for the lab, which must be up.
func (c *client) state(ctx context.Context) (*labv1.Lab, error) {
	answer, err := c.GetLab(ctx, &labv1.GetLabRequest{})
	if status.Code(err) == codes.Unavailable {
		return nil, fmt.Errorf("lab %q does not answer: it is just starting, or just ending", c.name)
	}
	if err != nil {
		return nil, plain(err)
	}
	if !answer.GetLab().GetReady() {
		return nil, fmt.Errorf("lab %q is not up yet: `damask lab up` is still at work", answer.GetLab().GetName())
	}
	return answer.GetLab(), nil
}

// plain leaves the words of an error for a person.
func plain(err error) error {
	if err == nil {
		return nil
	}
	return errors.New(rpcerr.Message(err))
}

// Connector reaches the clusters of labs, for the operator's commands.
type Connector struct{}

// Lab answers how to reach the lab of that name.
func (Connector) Lab(ctx context.Context, name string) (cli.Cluster, error) {
	c, err := connect(name)
	if err != nil {
		return cli.Cluster{}, err
	}
	defer c.close()
	state, err := c.state(ctx)
	if err != nil {
		return cli.Cluster{}, err
	}
	dir := state.GetOperatorDirectory()
	cluster := cli.Cluster{
		TLS: identity.Files{
			Certificate: dir + "/" + authority.CertificateFile,
			Key:         dir + "/" + authority.KeyFile,
			CA:          dir + "/" + authority.CACertificateFile,
			TrustDomain: state.GetTrustDomain(),
		},
		Agents: map[string]string{},
		Dial:   operator.Dialer(hostNetns(state, state.GetControl())),
	}
	for _, service := range state.GetServices() {
		switch service.GetName() {
		case "ipam":
			cluster.IPAM = service.GetAddresses()
		case "tenancy":
			cluster.Tenancy = service.GetAddresses()
		case "servicelb":
			cluster.ServiceLB = service.GetAddresses()
		case "egress":
			cluster.Egress = service.GetAddresses()
		}
	}
	for _, node := range state.GetNodes() {
		cluster.Agents[node.GetName()] = node.GetAgentAddress()
	}
	return cluster, nil
}

// hostNetns is the path of a host's network namespace as the machine sees it.
func hostNetns(state *labv1.Lab, host *labv1.Host) string {
	return fmt.Sprintf("/proc/%d/root%s", state.GetPid(), host.GetNetns())
}
