package rpcserve

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	"github.com/damask-sdn/damask/internal/identity"
	"github.com/damask-sdn/damask/internal/rpcguard"
	accessv1 "github.com/damask-sdn/damask/proto/damask/access/v1"
)

// allowList says who may call which RPC of a server.
type allowList struct {
	source *identity.Source // nil on a unix socket
	rules  map[string]rule  // by full method, "/damask.ipam.v1.HostSubnetService/GetHostSubnet"
}

// rule is what the access option of one RPC says.
type rule struct {
	anybody bool // whoever got in; for the health service
	callers []accessv1.Role
	ownNode []string // field names from the request to the node's name; nil for any node
}

func newAllowList(source *identity.Source) *allowList {
	return &allowList{source: source, rules: map[string]rule{}}
}

// read takes the rules from the descriptors of all registered services. The
// error names every RPC that cannot be served.
func (a *allowList) read(services map[string]grpc.ServiceInfo) error {
	var problems []error
	for name, info := range services {
		for _, method := range info.Methods {
			full := "/" + name + "/" + method.Name
			r, err := a.readRule(name, method)
			if err != nil {
				problems = append(problems, fmt.Errorf("RPC %s: %w", full, err))
			}
			a.rules[full] = r
		}
	}
	slices.SortFunc(problems, func(x, y error) int { return strings.Compare(x.Error(), y.Error()) })
	return errors.Join(problems...)
}

func (a *allowList) readRule(service string, method grpc.MethodInfo) (rule, error) {
	if service == healthv1.Health_ServiceDesc.ServiceName {
		return rule{anybody: true}, nil
	}
	found, err := protoregistry.GlobalFiles.FindDescriptorByName(protoreflect.FullName(service + "." + method.Name))
	if err != nil {
		return rule{}, fmt.Errorf("find descriptor: %w", err)
	}
	descriptor, ok := found.(protoreflect.MethodDescriptor)
	if !ok {
		return rule{}, errors.New("its descriptor is not that of a method")
	}
	access, err := rpcguard.Access(descriptor)
	if err != nil {
		return rule{}, err
	}
	r := rule{callers: access.GetCallers()}
	local := a.source == nil
	switch {
	case access.GetLocalOnly() && !local:
		return rule{}, errors.New("it is local_only, and this server is on the network")
	case !access.GetLocalOnly() && local:
		return rule{}, errors.New("it is not local_only, and this server is on a unix socket")
	case local:
		return rule{anybody: true}, nil
	case len(r.callers) == 0, slices.Contains(r.callers, accessv1.Role_ROLE_UNSPECIFIED):
		return rule{}, errors.New("its access option must name callers")
	}
	if path := access.GetOwnNodeField(); path != "" {
		r.ownNode = strings.Split(path, ".")
		if err := checkOwnNode(descriptor, method, r.ownNode); err != nil {
			return rule{}, fmt.Errorf("own_node_field %q: %w", path, err)
		}
	}
	return r, nil
}

// checkOwnNode verifies that the field can be read from a request.
func checkOwnNode(method protoreflect.MethodDescriptor, info grpc.MethodInfo, path []string) error {
	if info.IsClientStream {
		return errors.New("requests of a stream cannot be checked")
	}
	message := method.Input()
	for i, name := range path {
		field := message.Fields().ByName(protoreflect.Name(name))
		last := i == len(path)-1
		switch {
		case field == nil:
			return fmt.Errorf("%s has no field %q", message.FullName(), name)
		case field.IsList() || field.IsMap():
			return fmt.Errorf("field %q is repeated", name)
		case last && field.Kind() != protoreflect.StringKind:
			return fmt.Errorf("field %q is not a string", name)
		case !last && field.Kind() != protoreflect.MessageKind:
			return fmt.Errorf("field %q is not a message", name)
		}
		message = field.Message()
	}
	return nil
}

// callerKey is the context key of the caller's identity.
type callerKey struct{}

// Caller answers who made the call that ctx belongs to. It is false on a unix
// socket, where callers have no identity.
func Caller(ctx context.Context) (identity.ID, bool) {
	id, ok := ctx.Value(callerKey{}).(identity.ID)
	return id, ok
}

// admit answers the context for the call with its caller, or PERMISSION_DENIED
// or UNAUTHENTICATED.
func (a *allowList) admit(ctx context.Context, method string) (context.Context, rule, error) {
	r, ok := a.rules[method]
	if !ok {
		return nil, rule{}, status.Errorf(codes.Unimplemented, "there is no RPC %s", method)
	}
	if a.source == nil {
		return ctx, r, nil
	}
	id, err := a.caller(ctx)
	if err != nil {
		return nil, rule{}, status.Errorf(codes.Unauthenticated, "%v", err)
	}
	if !r.anybody && !slices.Contains(r.callers, id.Role) {
		return nil, rule{}, status.Errorf(codes.PermissionDenied, "%s may not call %s", id, method)
	}
	return context.WithValue(ctx, callerKey{}, id), r, nil
}

func (a *allowList) caller(ctx context.Context) (identity.ID, error) {
	p, ok := peer.FromContext(ctx)
	if !ok {
		return identity.ID{}, errors.New("the caller is unknown")
	}
	info, ok := p.AuthInfo.(credentials.TLSInfo)
	if !ok {
		return identity.ID{}, errors.New("the caller did not use TLS")
	}
	return a.source.Peer(info.State)
}

// checkOwnNode answers PERMISSION_DENIED when a node asks for another node.
func (r rule) checkOwnNode(ctx context.Context, request any) error {
	id, ok := Caller(ctx)
	if r.ownNode == nil || !ok || id.Role != accessv1.Role_ROLE_NODE {
		return nil
	}
	message, ok := request.(proto.Message)
	if !ok {
		return status.Error(codes.PermissionDenied, "the request cannot be checked")
	}
	value := message.ProtoReflect()
	for _, name := range r.ownNode[:len(r.ownNode)-1] {
		value = value.Get(value.Descriptor().Fields().ByName(protoreflect.Name(name))).Message()
	}
	field := value.Descriptor().Fields().ByName(protoreflect.Name(r.ownNode[len(r.ownNode)-1]))
	if got := value.Get(field).String(); got != id.Name {
		return status.Errorf(codes.PermissionDenied, "%s may not act for node %q", id, got)
	}
	return nil
}
