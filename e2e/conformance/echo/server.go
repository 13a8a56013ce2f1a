package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	pb "sigs.k8s.io/gateway-api/conformance/echo-basic/grpcechoserver"
)

var hostname, _ = os.Hostname()

// runServer listens on each --port (HTTP/1.1 and HTTP/2 in plain text), of which those of --tls speak TLS, and on those of
// --grpc and --tcp. Flags that it does not know are ignored, as is where a certificate lies: it makes one.
func runServer(args []string) {
	secure := portsOf(args, "--tls")
	for _, port := range portsOf(args, "--port") {
		go serveHTTP(port, slices.Contains(secure, port))
	}
	for _, port := range portsOf(args, "--grpc") {
		go serveGRPC(port)
	}
	for _, port := range portsOf(args, "--tcp") {
		go serveTCP(port)
	}
	ended := make(chan os.Signal, 1)
	signal.Notify(ended, syscall.SIGTERM, syscall.SIGINT)
	<-ended
}

func portsOf(args []string, flag string) []string {
	var ports []string
	for _, arg := range args {
		if port, is := strings.CutPrefix(arg, flag+"="); is {
			ports = append(ports, port)
		}
	}
	return ports
}

func listen(port string) net.Listener {
	listener, err := net.Listen("tcp", ":"+port)
	if err != nil {
		log.Fatal(err)
	}
	return listener
}

func serveHTTP(port string, secure bool) {
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	protocols.SetHTTP2(secure)
	protocols.SetUnencryptedHTTP2(!secure)
	server := &http.Server{
		Handler:           http.HandlerFunc(echoHTTP(port)),
		Protocols:         &protocols,
		ReadHeaderTimeout: 10 * time.Second,
	}
	listener := listen(port)
	if !secure {
		log.Fatal(server.Serve(listener))
	}
	server.TLSConfig = &tls.Config{Certificates: []tls.Certificate{selfSigned()}}
	log.Fatal(server.ServeTLS(listener, "", ""))
}

func echoHTTP(port string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/plain")
		var body strings.Builder
		fmt.Fprintf(&body, "ServicePort=%s\nMethod=%s\nURL=%s\nProto=%s\n", port, r.Method, r.RequestURI, r.Proto)
		fmt.Fprintf(&body, "RequestHeader=Host:%s\nHost=%s\n", r.Host, r.Host)
		for _, name := range sorted(r.Header) {
			for _, value := range r.Header[name] {
				fmt.Fprintf(&body, "RequestHeader=%s:%s\n", name, value)
			}
		}
		fmt.Fprintf(&body, "Hostname=%s\n", hostname)
		io.WriteString(w, body.String())
	}
}

type echoService struct {
	pb.UnimplementedGrpcEchoServer
}

func (echoService) Echo(ctx context.Context, _ *pb.EchoRequest) (*pb.EchoResponse, error) {
	headers, _ := metadata.FromIncomingContext(ctx)
	answer := &pb.EchoResponse{Assertions: &pb.Assertions{Context: &pb.Context{Pod: hostname}}}
	for name, values := range headers {
		for _, value := range values {
			answer.Assertions.Headers = append(answer.Assertions.Headers, &pb.Header{Key: name, Value: value})
		}
	}
	return answer, nil
}

func serveGRPC(port string) {
	server := grpc.NewServer()
	pb.RegisterGrpcEchoServer(server, echoService{})
	log.Fatal(server.Serve(listen(port)))
}

func serveTCP(port string) {
	listener := listen(port)
	for {
		connection, err := listener.Accept()
		if err != nil {
			log.Fatal(err)
		}
		go func() {
			defer connection.Close()
			connection.SetDeadline(time.Now().Add(time.Minute))
			fmt.Fprintf(connection, "ServicePort=%s\nHostname=%s\n", port, hostname)
			io.Copy(connection, connection)
		}()
	}
}

func selfSigned() tls.Certificate {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		log.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		DNSNames:     []string{"echo"},
		NotBefore:    time.Now().Add(-time.Hour),
		NotAfter:     time.Now().Add(24 * time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		log.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

func sorted(headers map[string][]string) []string {
	names := make([]string, 0, len(headers))
	for name := range headers {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}
