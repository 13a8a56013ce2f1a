package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	pb "sigs.k8s.io/gateway-api/conformance/echo-basic/grpcechoserver"
)

const timeout = 10 * time.Second

// call is one line of command: client URL [--method=GET] [-H NAME:VALUE …] [--count=N].
type call struct {
	url     string
	method  string
	headers [][2]string
	count   int
}

// runClient makes the requests one after the other, each on a connection of its own, follows no redirect and prints each
// answer, an empty line after each.
func runClient(args []string) {
	one := parse(args)
	send := sendHTTP
	if strings.HasPrefix(one.url, "grpc://") {
		send = sendGRPC
	}
	for range one.count {
		answer, err := send(one)
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		fmt.Println(answer)
	}
}

func parse(args []string) call {
	one := call{method: http.MethodGet, count: 1}
	for at := 0; at < len(args); at++ {
		flag, value, _ := strings.Cut(args[at], "=")
		switch {
		case flag == "--method":
			one.method = value
		case flag == "--count":
			one.count, _ = strconv.Atoi(value)
		case args[at] == "-H" && at+1 < len(args):
			at++
			name, text, _ := strings.Cut(args[at], ":")
			one.headers = append(one.headers, [2]string{name, text})
		default:
			one.url = args[at]
		}
	}
	return one
}

func sendHTTP(one call) (string, error) {
	request, err := http.NewRequest(one.method, one.url, nil)
	if err != nil {
		return "", err
	}
	for _, header := range one.headers {
		if strings.EqualFold(header[0], "host") {
			request.Host = header[1]
			continue
		}
		request.Header.Add(header[0], header[1])
	}
	client := &http.Client{
		Timeout: timeout,
		Transport: &http.Transport{
			DisableKeepAlives: true,
			TLSClientConfig:   &tls.Config{InsecureSkipVerify: true},
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	response, err := client.Do(request)
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return "", err
	}
	var text strings.Builder
	fmt.Fprintf(&text, "Url=%s\nStatusCode=%d\n", one.url, response.StatusCode)
	for _, name := range sorted(response.Header) {
		for _, value := range response.Header[name] {
			fmt.Fprintf(&text, "ResponseHeader=%s:%s\n", name, value)
		}
	}
	text.Write(body)
	return text.String(), nil
}

// sendGRPC says status 200 for an answer, since the suite compares the status of HTTP.
func sendGRPC(one call) (string, error) {
	target := strings.TrimSuffix(strings.TrimPrefix(one.url, "grpc://"), "/")
	connection, err := grpc.NewClient(target, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return "", err
	}
	defer connection.Close()
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	for _, header := range one.headers {
		ctx = metadata.AppendToOutgoingContext(ctx, header[0], header[1])
	}
	answer, err := pb.NewGrpcEchoClient(connection).Echo(ctx, &pb.EchoRequest{})
	if err != nil {
		return "", err
	}
	var text strings.Builder
	fmt.Fprintf(&text, "Url=%s\nStatusCode=200\n", one.url)
	for _, header := range answer.GetAssertions().GetHeaders() {
		fmt.Fprintf(&text, "RequestHeader=%s:%s\n", header.GetKey(), header.GetValue())
	}
	fmt.Fprintf(&text, "Hostname=%s\n", answer.GetAssertions().GetContext().GetPod())
	return text.String(), nil
}
