package natsd

import (
	"fmt"

	"github.com/hashicorp/go-hclog"
	"github.com/nats-io/nats-server/v2/server"

	"github.com/damask-sdn/damask/internal/bus"
	"github.com/damask-sdn/damask/internal/identity"
	"github.com/damask-sdn/damask/internal/token"
	accessv1 "github.com/damask-sdn/damask/proto/damask/access/v1"
)

// Everything that Damask publishes is under this subject.
const everything = "damask.>"

// InboxPrefix answers the subject under which an identity gets its replies.
// Nobody else may subscribe there.
func InboxPrefix(id identity.ID) string { return "_INBOX_" + token.Encode(id.String()) }

// BucketName answers the name of a service's bucket.
func BucketName(service string) string { return "damask_" + service }

// Permissions answers what an identity may publish and subscribe to, or that
// it may not connect:
//
//   - everybody subscribes to the bus (damask.>) and to its own inbox;
//   - a service reads and writes its own bucket through JetStream, but can
//     neither delete nor purge it, and publishes its head notes;
//   - a node agent publishes under its own name only (damask.node.v1.NAME.>);
//   - an operator publishes nothing;
//   - a NATS server is no client.
//
// Commits appear on the bus by the server's own hand, so that no client needs
// the right to publish changes.
func Permissions(id identity.ID) (*server.Permissions, error) {
	p := &server.Permissions{
		Subscribe: &server.SubjectPermission{Allow: []string{everything, InboxPrefix(id) + ".>"}},
		Publish:   &server.SubjectPermission{},
	}
	switch id.Role {
	case accessv1.Role_ROLE_IPAM, accessv1.Role_ROLE_TENANCY, accessv1.Role_ROLE_SERVICELB, accessv1.Role_ROLE_EGRESS:
		p.Publish.Allow = servicePublishes(id.Name)
	case accessv1.Role_ROLE_NODE:
		p.Publish.Allow = []string{"damask.node.v1." + token.Encode(id.Name) + ".>"}
	case accessv1.Role_ROLE_OPERATOR:
		p.Publish.Deny = []string{">"}
	default:
		return nil, fmt.Errorf("%s may not connect as a client", id)
	}
	return p, nil
}

func servicePublishes(service string) []string {
	stream := "KV_" + BucketName(service)
	allowed := []string{
		"$KV." + BucketName(service) + ".>",
		bus.HeadSubject(bus.Prefix(service), "*"),
	}
	for _, api := range []string{
		"INFO",
		"STREAM.CREATE." + stream,
		"STREAM.UPDATE." + stream,
		"STREAM.INFO." + stream,
		"STREAM.MSG.GET." + stream,
		"CONSUMER.CREATE." + stream,
		"CONSUMER.CREATE." + stream + ".>",
		"CONSUMER.INFO." + stream + ".*",
		"CONSUMER.DELETE." + stream + ".*",
		"CONSUMER.MSG.NEXT." + stream + ".*",
	} {
		allowed = append(allowed, "$JS.API."+api)
	}
	return allowed
}

// doorkeeper lets clients in by their certificates, and for as long as these
// are good.
type doorkeeper struct {
	source *identity.Source
	log    hclog.Logger
}

// Check implements server.Authentication.
func (d *doorkeeper) Check(c server.ClientAuthentication) bool {
	state := c.GetTLSConnectionState()
	if state == nil {
		d.log.Warn("client refused", "address", c.RemoteAddress().String(), "error", "no TLS")
		return false
	}
	id, err := d.source.Peer(*state)
	if err != nil {
		d.log.Warn("client refused", "address", c.RemoteAddress().String(), "error", err)
		return false
	}
	permissions, err := Permissions(id)
	if err != nil {
		d.log.Warn("client refused", "address", c.RemoteAddress().String(), "error", err)
		return false
	}
	c.RegisterUser(&server.User{
		Username: id.String(), Permissions: permissions,
		ConnectionDeadline: state.PeerCertificates[0].NotAfter,
	})
	return true
}
