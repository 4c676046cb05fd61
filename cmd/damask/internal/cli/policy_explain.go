package cli

import (
	"context"
	"fmt"
	"io"
	"net/netip"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	tenancyv1 "github.com/damask-sdn/damask/proto/damask/tenancy/v1"
)

func (a *app) policyExplainCommand() *cobra.Command {
	command := &cobra.Command{
		Use:   "explain FROM TO PORT[/PROTOCOL]",
		Short: "Say which rules of which policies allow or deny a connection",
		Long: "Say which rules of which policies allow or deny a connection. FROM and TO are\n" +
			"NAMESPACE/POD or an address. The answer is from the same objects as the nodes' flows;\n" +
			"what else may be in the way (VNIDs, egress firewalls) is not asked.",
		Args:              cobra.ExactArgs(3),
		ValidArgsFunction: cobra.NoFileCompletions,
	}
	f := addFormatFlag(command)
	command.RunE = a.ask(func(ctx context.Context, s *session, command *cobra.Command, args []string) error {
		r := &tenancyv1.ExplainConnectionRequest{}
		var err error
		if r.From, err = connectionEnd(args[0]); err != nil {
			return err
		}
		if r.To, err = connectionEnd(args[1]); err != nil {
			return err
		}
		if r.Port, r.Protocol, err = portAndProtocol(args[2]); err != nil {
			return err
		}
		answer, err := s.policies.ExplainConnection(ctx, r)
		if err != nil {
			return err
		}
		if *f == "json" || *f == "yaml" {
			return show(command.OutOrStdout(), *f, []*tenancyv1.ExplainConnectionResponse{answer}, nil)
		}
		return tellConnection(command.OutOrStdout(), answer)
	})
	return command
}

// connectionEnd reads "NAMESPACE/POD" or an address.
func connectionEnd(text string) (*tenancyv1.ConnectionEnd, error) {
	if _, err := netip.ParseAddr(text); err == nil {
		return &tenancyv1.ConnectionEnd{Ip: text}, nil
	}
	namespace, name, found := strings.Cut(text, "/")
	if !found {
		return nil, fmt.Errorf("%q is neither NAMESPACE/POD nor an address", text)
	}
	return &tenancyv1.ConnectionEnd{Namespace: namespace, Name: name}, nil
}

// portAndProtocol reads "80", "80/tcp", "53/UDP".
func portAndProtocol(text string) (uint32, tenancyv1.Protocol, error) {
	number, name, given := strings.Cut(text, "/")
	protocol := tenancyv1.Protocol_PROTOCOL_TCP
	if given {
		value, known := tenancyv1.Protocol_value["PROTOCOL_"+strings.ToUpper(name)]
		if !known || value == 0 {
			return 0, 0, fmt.Errorf("%q is not tcp, udp or sctp", name)
		}
		protocol = tenancyv1.Protocol(value)
	}
	port, err := strconv.ParseUint(number, 10, 16)
	if err != nil || port == 0 {
		return 0, 0, fmt.Errorf("%q is not a port from 1 to 65535", number)
	}
	return uint32(port), protocol, nil
}

// tellConnection prints an answer in sentences.
func tellConnection(out io.Writer, answer *tenancyv1.ExplainConnectionResponse) error {
	var b strings.Builder
	verdict := "denied"
	if answer.GetAllowed() {
		verdict = "allowed"
	}
	b.WriteString(verdict + "\n")
	for _, side := range answer.GetSides() {
		if side.GetPod() == nil {
			continue
		}
		fmt.Fprintf(&b, "%s of %s/%s: %s\n", word("POLICY_DIRECTION_", side.GetDirection()), side.GetPod().GetNamespace(), side.GetPod().GetName(), why(side))
		for _, m := range side.GetMatches() {
			fmt.Fprintf(&b, "  %s rule %s: %s\n", policyName(m.GetPolicy()), ruleName(m.GetRule(), m.GetRuleName()), word("POLICY_ACTION_", m.GetAction()))
		}
	}
	if !answer.GetEnforced() {
		b.WriteString("policies are not enforced in the present isolation mode\n")
	}
	_, err := io.WriteString(out, b.String())
	return err
}

// why says what decided on one side.
func why(side *tenancyv1.SideVerdict) string {
	verdict := "denied"
	if side.GetAllowed() {
		verdict = "allowed"
	}
	switch {
	case side.GetPolicy() == nil && len(side.GetPolicies()) == 0:
		return verdict + ", no policy applies"
	case side.GetPolicy() == nil:
		return verdict + ", no policy decides"
	case side.Rule == nil:
		var names []string
		for _, k := range side.GetPolicies() {
			names = append(names, policyName(k))
		}
		return fmt.Sprintf("%s, no rule matches of %s", verdict, strings.Join(names, ", "))
	}
	return fmt.Sprintf("%s by %s rule %s", verdict, policyName(side.GetPolicy()), ruleName(side.GetRule(), side.GetRuleName()))
}

func ruleName(index uint32, name string) string {
	if name == "" {
		return strconv.FormatUint(uint64(index), 10)
	}
	return fmt.Sprintf("%d (%s)", index, name)
}
