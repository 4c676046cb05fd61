// Package servicepath holds the way of a packet to a service, and past policies, against
// real packets.
//
// It has tests alone. They make two nodes in network namespaces out of the agent's own
// parts (bridge, link, masquerade, intent with pipeline and flowsync, a proxy engine),
// without the agent and the control services, and let pods ask services.
//
// They prove what the parts can only prove together: that a backend sees the pod that
// asks, that its answer comes from the service's address, and that nobody reaches
// another tenant by way of a service; that policies decide as internal/policy says, of
// pods' own connections and of those through services, while others change; that
// established connections go on when policies, modes or the agent change, and end when
// they are forbidden.
package servicepath
